"""Phonemes of a sentence, and the phoneme that each word begins with.

A front end makes them. `espeak_front.py` has espeak-ng's, in a helper process; `text_phonemes` is that of voices that
were trained on letters.
"""

import unicodedata
from typing import NamedTuple, Protocol

from gpuworker.engines.text import coverage
from gpuworker.engines.text.coverage import Span


class WordStart(NamedTuple):
    """A word of the sentence, and where it begins in `Phonemes.symbols`."""

    symbol: int
    start: int
    length: int


class Phonemes(NamedTuple):
    """How a sentence is pronounced."""

    #: One character each, decomposed (NFD), with blanks between words and the marks that end clauses.
    symbols: str
    #: In order. A word whose phonemes merge with its neighbours' is left out.
    words: tuple[WordStart, ...] = ()
    #: Tokens that have no phonemes.
    unspoken: tuple[Span, ...] = ()


class FrontEnd(Protocol):
    """Makes phonemes of text in one language."""

    @property
    def pid(self) -> int | None:
        """The helper process, if one runs."""
        ...

    def start(self) -> None:
        """Load data or start the helper process. Idempotent. Raises SpeakerFailed or RuntimeError."""
        ...

    def stop(self) -> None:
        """Free what `start` has taken. Idempotent."""
        ...

    def phonemes(self, text: str) -> Phonemes:
        """The phonemes of one sentence; no symbols if nothing of it can be spoken. Raises SpeakerFailed."""
        ...


class Letters:
    """The front end of voices that were trained on letters: each letter is a phoneme."""

    pid: int | None = None

    def start(self) -> None:
        """Nothing to load."""

    def stop(self) -> None:
        """Nothing to free."""

    def phonemes(self, text: str) -> Phonemes:
        """The letters of `text` in lower case."""
        symbols, words, end = "", [], 0
        for start, stop in tokens(text):
            symbols += unicodedata.normalize("NFD", text[end:start].casefold())
            words.append(WordStart(len(symbols), start, stop - start))
            symbols += unicodedata.normalize("NFD", text[start:stop].casefold())
            end = stop
        return Phonemes(symbols + unicodedata.normalize("NFD", text[end:].casefold()), tuple(words))


def tokens(text: str) -> list[Span]:
    """The tokens of `text` that are to be spoken, without the punctuation around words."""
    return [_trimmed(text, start, end) for start, end in coverage.tokens(text, range(len(text)))]


def _trimmed(text: str, start: int, end: int) -> Span:
    sounds = [place for place in range(start, end) if text[place].isalnum()]
    if not sounds:
        return start, end
    last = sounds[-1] + 1
    while last < end and unicodedata.combining(text[last]):
        last += 1
    return sounds[0], last
