"""Reads parts of a text as phonemes, and compares them with the words of the text."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from gpuworker.engines.reading.phonemes import FrontEnd, Phonemes
from gpuworker.engines.text import coverage
from gpuworker.engines.text.coverage import Span
from gpuworker.engines.text.parts import Part, halves
from gpuworker.engines.text.spelling import plainer

#: A word that has no sound is read in halves only if it is so long.
_LONG_WORD = 20


@dataclass(slots=True)
class Reading:
    """The phonemes of a part of a text. Positions of words are (start, end) in the original text."""

    symbols: str = ""
    #: Index into `symbols` at which each word begins.
    words: list[tuple[int, Span]] = field(default_factory=list)
    #: Tokens without a letter or digit that have no sound.
    skipped: list[Span] = field(default_factory=list)
    #: Words that have no sound, not even alone.
    lost: list[Span] = field(default_factory=list)

    def add(self, other: "Reading") -> None:
        """Append what is read next."""
        if self.symbols:
            self.symbols += " "
        self.words += [(len(self.symbols) + symbol, span) for symbol, span in other.words]
        self.symbols += other.symbols
        self.skipped += other.skipped
        self.lost += other.lost

    def cut(self, place: int) -> tuple["Reading", "Reading"]:
        """The symbols before `place` and from it on, with their words; the first keeps what was skipped or lost."""
        before = [(symbol, span) for symbol, span in self.words if symbol < place]
        behind = [(symbol - place, span) for symbol, span in self.words if symbol >= place]
        first = Reading(self.symbols[:place], before, self.skipped, self.lost)
        return first, Reading(self.symbols[place:], behind)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads with one front end, for a voice that knows the phonemes `known`."""

    front_end: FrontEnd
    known: Container[str]

    def read(self, part: Part) -> Reading:
        """The phonemes of a part. One that loses a word is read without its accents, or in halves.

        Raises SpeakerFailed.
        """
        found = self.front_end.phonemes(part.text)
        silent = {*found.unspoken, *self._unknown(found)}
        words = [span for span in sorted(silent) if coverage.is_word(part.text[slice(*span)])]
        if words and (other := plainer(part, words)):
            return self.read(other)
        is_one = part.text.split() == [part.text.strip()] and len(part.text) < _LONG_WORD
        if words and not is_one and (smaller := halves(part)):
            reading = Reading()
            for each in smaller:
                reading.add(self.read(each))
            return reading
        return Reading(
            found.symbols,
            [(word.symbol, part.span(word.start, word.start + word.length)) for word in found.words],
            [part.span(*span) for span in sorted(silent.difference(words))],
            [part.span(*span) for span in words],
        )

    def _unknown(self, found: Phonemes) -> Iterator[Span]:
        """Words all of whose phonemes the voice does not know."""
        ends = [*(word.symbol for word in found.words[1:]), len(found.symbols)]
        for word, end in zip(found.words, ends, strict=False):
            if not any(symbol.isalnum() and symbol in self.known for symbol in found.symbols[word.symbol : end]):
                yield word.start, word.start + word.length
