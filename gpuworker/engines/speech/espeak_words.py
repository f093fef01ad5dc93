"""Maps espeak-ng's word events to the words of the text.

An event has the position where the library begins to speak a word, and its length in the text, but the library counts
as it reads: `don't` is reported as `don`, `3rd` as `3`, `1984` twice (nineteen, eighty-four), the second one character
later. Words that it speaks in one breath (`of the`) are reported as the first of them. Each event is judged when it
arrives, without the next one, because the audio it belongs to must not wait either.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from gpuworker.engines.speech.speaker import Word

#: Signs that join the letters, or the digits, on both sides of them into one word; a full stop also joins lone letters
#: (`U.S.A`).
_BETWEEN_LETTERS = "'’-‐‑"  # noqa: RUF001
_BETWEEN_DIGITS = ".,"
_ENTITY = re.compile(r"&#?\w{1,31};")
#: Scripts without spaces between words: there the end of a word is the library's.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Words:
    """The words of one text, in the order in which they are spoken."""

    def __init__(self, text: str, *, is_document: bool) -> None:
        """`is_document`: the text is SSML."""
        self._text = text
        self._is_document = is_document
        #: Start and end of the latest word.
        self._start = 0
        self._end = 0

    def locate(self, events: Iterable[Word]) -> Iterator[Word]:
        """The words that begin with `events`, at their own positions and lengths. They never overlap."""
        for event in events:
            span = self._span(event.start, event.length)
            if span is not None:
                start, end = span
                self._start = start
                self._end = end
                yield Word(event.frame, start, end - start)

    def _span(self, start: int, length: int) -> tuple[int, int] | None:
        """(start, end) of the word that begins with this event; None if the event continues the word before."""
        text = self._text
        if start >= len(text) or start < self._end:
            return None
        # Behind a lone sign the event continues the sign; behind an abbreviation (`etc. is`) it is one character early.
        if text[start].isspace() and start == self._start + 1:
            return None
        while _is_silent(text[start]):
            start += 1
            if start == len(text):
                return None
        entity = self._entity(start) if self._is_document else None
        if entity is not None:
            return entity if entity[0] >= self._end else None
        return start, self._end_of(start, min(start + max(length, 1), len(text)))

    def _entity(self, place: int) -> tuple[int, int] | None:
        """The span of an entity: of `&amp;` the library reports the last character."""
        found = _ENTITY.match(self._text, self._text.rfind("&", 0, place + 1))
        return found.span() if found and place < found.end() else None

    def _end_of(self, start: int, end: int) -> int:
        """The end of the word at `start`; `end` is the one that the library reports."""
        text, stops = self._text, "<&" if self._is_document else ""
        end = next((place for place in range(start + 1, end) if text[place].isspace() or text[place] in stops), end)
        if not _is_of_word(text[start]):
            return end
        while end < len(text) and (_is_of_word(text[end]) or _joins(text, end)):
            end += 1
        return end


def _is_silent(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) in {"Pd", "Ps", "Pe", "Pi", "Pf"}


def _is_of_word(char: str) -> bool:
    """Whether it is a letter, an accent or a digit of a script that puts spaces between words."""
    return unicodedata.category(char)[0] in "LMN" and not _UNSPACED.match(char)


def _joins(text: str, place: int) -> bool:
    """Whether the sign at `place`, behind a word, is within it."""
    around = text[place - 1], text[place + 1 : place + 2] or " "
    if text[place] in _BETWEEN_LETTERS:
        return all(map(_is_of_word, around))
    if text[place] in _BETWEEN_DIGITS and all(map(str.isdigit, around)):
        return True
    beyond = text[max(0, place - 2) : place - 1] + text[place + 2 : place + 3]
    return text[place] == "." and all(map(str.isalpha, around)) and not any(map(str.isalpha, beyond))
