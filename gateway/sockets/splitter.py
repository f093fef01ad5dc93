"""Cuts a text that arrives in parts into pieces that can be spoken one after the other.

Nothing is lost: the pieces joined are the text. The pieces do not depend on where the text was cut on its way here, and
are those that `bus.sentences` cuts from the whole text.
"""

from typing import Final, Literal

from bus import sentences

Granularity = Literal["none", sentences.Granularity]

#: Longest piece, in characters.
MAX_CHARS: Final = sentences.MAX_CHARS


class Splitter:
    """Takes text, returns pieces of at most `max_chars` characters.

    With `none` a piece is all text up to `finish`, of any length. A piece keeps the white space behind it; only the
    first, or one of nothing else, begins with any.
    """

    def __init__(
        self, granularity: Granularity = "sentence", max_chars: int = MAX_CHARS, *, language: str = ""
    ) -> None:
        """`language`: BCP 47 tag of the voice, whose abbreviations end no sentence; with "", those of all languages."""
        self._granularity = granularity
        self._language = language
        self._max_chars = max_chars
        self._text = ""
        #: Nothing before this position of `_text` is left to judge.
        self._scanned = 0
        #: The received text where the granularity is `none`; joined once, in `finish`.
        self._parts: list[str] = []
        self._num_part_chars = 0

    @property
    def num_held_chars(self) -> int:
        """Characters received and not yet returned."""
        return len(self._text) + self._num_part_chars

    def feed(self, text: str) -> list[str]:
        """Return the pieces whose end is certain, now that `text` has arrived."""
        if not text:
            return []
        if self._granularity == "none":
            self._parts.append(text)
            self._num_part_chars += len(text)
            return []
        self._text += text
        pieces: list[str] = []
        start = 0
        while True:
            end, self._scanned = sentences.find_end(
                self._text, start, self._scanned, self._granularity, self._max_chars, self._language
            )
            if end is None:
                break
            pieces.append(self._text[start:end])
            start = end
        # One copy for all of them: a book in one message is not copied once per sentence.
        self._text = self._text[start:]
        self._scanned -= start
        return pieces

    def finish(self) -> list[str]:
        """Return the rest, at most one piece, perhaps of white space alone, and become empty."""
        rest = "".join(self._parts) + self._text
        self._parts = []
        self._num_part_chars = 0
        self._text = ""
        self._scanned = 0
        return [rest] if rest else []
