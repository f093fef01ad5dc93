"""Phonemes as Kokoro writes them: those of espeak-ng, with one letter for a diphthong and for an affricate.

The rules restate misaki's, by which the model's training texts were written (https://github.com/hexgrad/misaki).
"""

import re
from typing import Final

from gpuworker.engines.reading.phonemes import FrontEnd, Phonemes

#: Sequences of espeak-ng's letters that are one in Kokoro's, whatever the language.
_SHARED: Final = {
    "aɪ": "I",
    "aʊ": "W",
    "dz": "ʣ",
    "dʒ": "ʤ",
    "eɪ": "A",
    "oʊ": "O",
    "əʊ": "Q",
    "ts": "ʦ",
    "tʃ": "ʧ",
    "ɔɪ": "Y",
    "g": "ɡ",
}
#: US English has no long vowels, and its own letters for r-coloured ones and for the flap.
_US: Final = {
    "ɜːɹ": "ɜɹ",
    "ɜː": "ɜɹ",
    "ɚ": "əɹ",
    "ɾ": "T",
    "n\u0329": "ᵊn",
    "l\u0329": "ᵊl",
    "r": "ɹ",
    "x": "k",
    "ː": "",
    "ts": "ts",
    "dz": "dz",
}
_GB: Final = {"eə": "ɛː", "iə": "ɪə", "n\u0329": "ᵊn", "l\u0329": "ᵊl", "r": "ɹ", "x": "k", "ts": "ts", "dz": "dz"}
_OF_LANGUAGE: Final = {"en-us": {**_SHARED, **_US}, "en-gb": {**_SHARED, **_GB}}


class KokoroFrontEnd:
    """A front end whose phonemes are written as Kokoro writes them. The front end within is its owner's."""

    def __init__(self, inner: FrontEnd, language: str) -> None:
        """`language`: as espeak-ng names it."""
        self._inner = inner
        self._letters = _OF_LANGUAGE.get(language, _SHARED)
        longest_first = sorted(self._letters, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    @property
    def pid(self) -> int | None:
        """The helper process of the front end within, if it runs."""
        return self._inner.pid

    def start(self) -> None:
        """Start the front end within. Idempotent. Raises SpeakerFailed or RuntimeError."""
        self._inner.start()

    def stop(self) -> None:
        """Stop the front end within. Idempotent."""
        self._inner.stop()

    def phonemes(self, text: str) -> Phonemes:
        """The phonemes of one sentence. Raises SpeakerFailed."""
        found = self._inner.phonemes(text)
        symbols, places, done = "", [], 0
        for match in self._pattern.finditer(found.symbols):
            places += [len(symbols) + index for index in range(match.start() - done)]
            symbols += found.symbols[done : match.start()]
            places += [len(symbols)] * len(match.group())
            symbols += self._letters[match.group()]
            done = match.end()
        places += [len(symbols) + index for index in range(len(found.symbols) - done)]
        symbols += found.symbols[done:]
        words = tuple(word._replace(symbol=places[word.symbol]) for word in found.words)
        return Phonemes(symbols, words, found.unspoken)
