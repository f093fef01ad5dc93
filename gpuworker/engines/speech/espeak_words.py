"""From what espeak-ng says of its words to the words of the text.

The library tells where it begins to speak a word and how long that is in the text, but it counts as it reads: `don't`
is told as `don`, `3rd` as `3`, `1984` twice (nineteen, eighty-four), the second one character later. Words that it
speaks in one breath (`of the`) are told as the first of them. Each event is judged when it comes, without waiting for
the next, because the sound it belongs to must not wait either.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from gpuworker.engines.speech.speaker import Word

#: Join what stands on both sides of them into one word, between letters or between digits; a full stop does between
#: lone letters (`U.S.A`).
_BETWEEN_LETTERS, _BETWEEN_DIGITS = "'’-‐‑", ".,"  # noqa: RUF001
_ENTITY = re.compile(r"&#?\w{1,31};")
#: Scripts without spaces between words: there only the library knows where one ends.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Words:
    """Of one text, fed in the order in which it is spoken."""

    def __init__(self, text: str, *, is_document: bool) -> None:
        self._text, self._is_document = text, is_document
        #: The last word told: its start and end.
        self._start = self._end = 0

    def told(self, events: Iterable[Word]) -> Iterator[Word]:
        """The words that begin with `events`. They never overlap, whatever the library says."""
        for event in events:
            word = self._word(event.start, event.length)
            if word is not None:
                self._start, self._end = word
                yield Word(event.frame, word[0], word[1] - word[0])

    def _word(self, start: int, length: int) -> tuple[int, int] | None:
        """(start, end) of the word that begins with this event; None if it goes on with the one before."""
        text = self._text
        if start >= len(text) or start < self._end:
            return None
        # Behind a lone sign the library goes on with that, behind an abbreviation (`etc. is`) it is one early.
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
        """Of `&amp;` the library tells the last character."""
        found = _ENTITY.match(self._text, self._text.rfind("&", 0, place + 1))
        return found.span() if found and place < found.end() else None

    def _end_of(self, start: int, end: int) -> int:
        """Where the word ends that begins at `start` and according to the library lasts until `end`."""
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
    """Letters, their accents and digits, of scripts that put spaces between words."""
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
