"""The loaded voices of an engine, and the front ends of their languages."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gpuworker.engines.piper import english_front
from gpuworker.engines.piper.english_front import EnglishFrontEnd
from gpuworker.engines.piper.espeak_front import EspeakFrontEnd
from gpuworker.engines.piper.network import Manner, Network, Prior
from gpuworker.engines.piper.phonemes import FrontEnd, Letters, Phonemes, encode
from gpuworker.engines.piper.voices import Folder, PiperVoice
from gpuworker.engines.speech.espeak import Files, find_espeak
from gpuworker.engines.text import coverage
from gpuworker.engines.text.coverage import Span
from gpuworker.engines.text.parts import Part, halves

#: Licence of espeak-ng, which runs in a process of its own.
_ESPEAK_LICENCE = "GPL-3.0-or-later"
#: Languages that need no espeak-ng: the letters of the text, and US English.
_WITHOUT_ESPEAK = {"", english_front.LANGUAGE}

#: A word that has no sound is read in halves only if it is so long.
_LONG_WORD = 20


class Utterance(NamedTuple):
    """A sentence whose length is known, before its audio."""

    prior: Prior
    #: In order: the frame of the sentence at which a word begins, and its (start, end) in the original text.
    words: list[tuple[int, Span]]


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


@dataclass(frozen=True, slots=True)
class Speaker:
    """One speaker of a loaded voice."""

    voice: PiperVoice
    network: Network
    front_end: FrontEnd
    number: int

    def read(self, part: Part) -> Reading:
        """The phonemes of a part. One that loses a word is read in halves. Raises SpeakerFailed."""
        found = self.front_end.phonemes(part.text)
        silent = {*found.unspoken, *self._unknown(found)}
        words = [span for span in sorted(silent) if coverage.is_word(part.text[slice(*span)])]
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
            if not any(symbol.isalnum() and symbol in self.voice.ids for symbol in found.symbols[word.symbol : end]):
                yield word.start, word.start + word.length

    def utterance(self, reading: Reading, sentence: int, manner: Manner) -> Utterance | None:
        """A part, number `sentence` of its job; None if nothing of it has a sound. Raises OutOfMemory."""
        if not any(symbol.isalnum() for symbol in reading.symbols):
            return None
        encoding = encode(reading.symbols, self.voice.ids)
        prior = self.network.prior(encoding.ids, sentence, manner)
        last = prior.frames - 1
        words = [(min(prior.starts[encoding.places[symbol]], last), span) for symbol, span in reading.words]
        return Utterance(prior, words)


class Library:
    """Owns sessions and helper processes from `start` to `stop`."""

    def __init__(self, folder: Folder, max_loaded: int) -> None:
        """Voices in `folder` whose language has no front end here are moved to its unusable ones."""
        self._max_loaded = max(1, max_loaded)
        self._device = "cpu"
        self._espeak = find_espeak()
        #: The one that was used last is the last.
        self._networks: OrderedDict[str, Network] = OrderedDict()
        self._front_ends: dict[str, FrontEnd] = {}
        for voice in list(folder.voices.values()):
            if voice.espeak not in _WITHOUT_ESPEAK and self._espeak is None:
                del folder.voices[voice.id]
                folder.unusable[voice.id] = (
                    f"{voice.id} speaks {voice.language}, whose phonemes need espeak-ng: pip install 'antiphon[espeak]'"
                )
        self._languages = {voice.espeak for voice in folder.voices.values()}

    @property
    def licences(self) -> Sequence[str]:
        """SPDX expressions of what runs beside our own code."""
        return [_ESPEAK_LICENCE] if self._espeak is not None and self._languages - {""} else []

    @property
    def loaded(self) -> list[str]:
        """Ids of the voices in memory, the one that was used last at the end."""
        return list(self._networks)

    @property
    def helper_pids(self) -> list[int]:
        """The helper processes of front ends that run."""
        return [each.pid for each in self._front_ends.values() if each.pid is not None]

    def start(self, device: str) -> None:
        """Load voices to `device` from now on."""
        self._device = device

    def stop(self) -> None:
        """Free all voices and end the helper processes. Idempotent."""
        self._networks.clear()
        for front_end in self._front_ends.values():
            front_end.stop()
        self._front_ends.clear()

    def open(self, voice: PiperVoice, speaker: str) -> Speaker:
        """A speaker of a voice, "" for the first; the voice is loaded if it is not. Raises Unusable, SpeakerFailed."""
        network = self._networks.pop(voice.id, None)
        if network is None:
            while len(self._networks) >= self._max_loaded:
                self._networks.popitem(last=False)
            voice.check_unchanged()
            network = Network(voice.path, self._device)
        self._networks[voice.id] = network
        number = voice.speakers[speaker] if speaker else 0
        return Speaker(voice, network, self._front_end(voice.espeak), number)

    def _front_end(self, language: str) -> FrontEnd:
        front_end = self._front_ends.get(language)
        if front_end is None:
            front_end = self._make_front_end(language, self._espeak)
            front_end.start()
            self._front_ends[language] = front_end
        return front_end

    @staticmethod
    def _make_front_end(language: str, espeak: Files | None) -> FrontEnd:
        if not language:
            return Letters()
        if language == english_front.LANGUAGE:
            return EnglishFrontEnd(EspeakFrontEnd(espeak, language) if espeak else None)
        assert espeak is not None, "voices that need it were left out"
        return EspeakFrontEnd(espeak, language)
