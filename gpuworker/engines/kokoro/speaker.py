"""A voice that speaks as one job says: sentences, or pieces of long ones, each made as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gpuworker.engine import Pcm
from gpuworker.engines.kokoro.network import Network
from gpuworker.engines.kokoro.vocabulary import IDS
from gpuworker.engines.kokoro.voices import KokoroVoice
from gpuworker.engines.reading.reader import Reader, Reading
from gpuworker.engines.text.coverage import Span
from gpuworker.engines.text.parts import Part

#: Longer sentences are made in pieces, of some seven seconds: all of a piece is made before its first sound, and
#: between two of them a job can be cancelled, and a worker sees that it is not stalled. The model itself takes 510.
MAX_PHONEMES: Final = 120
_BLOCK_FRAMES: Final = 6_000
_MARKS: Final = ".!?;:,—…"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence that was made."""

    pcm: Pcm
    #: In order: the frame of the sentence at which a word begins, and its (start, end) in the original text.
    words: Sequence[tuple[int, Span]]

    @property
    def frames(self) -> int:
        """Length of its audio."""
        return len(self.pcm)

    def windows(self, skip: int) -> Iterator[tuple[int, Pcm]]:
        """(First frame, audio) of each quarter of a second, from the one on that holds frame `skip`."""
        for at in range(max(0, skip) // _BLOCK_FRAMES * _BLOCK_FRAMES, len(self.pcm), _BLOCK_FRAMES):
            yield at, self.pcm[at : at + _BLOCK_FRAMES]


@dataclass(frozen=True, slots=True)
class Speaker:
    """One voice, for one job."""

    voice: KokoroVoice
    network: Network
    reader: Reader
    speed: float

    @property
    def language(self) -> str:
        """BCP 47."""
        return self.voice.language

    def read(self, part: Part) -> Reading:
        """The phonemes of a part. Raises SpeakerFailed."""
        return self.reader.read(part)

    def pieces(self, reading: Reading) -> list[Reading]:
        """The reading, cut where it has too many phonemes: behind a mark near its middle, else between two words."""
        symbols = reading.symbols
        if sum(symbol in IDS for symbol in symbols) <= MAX_PHONEMES * min(1.0, self.speed):  # as long when it is slow
            return [reading]
        place = _middle(symbols)
        return [piece for half in reading.cut(place) for piece in self.pieces(half)]

    def sentence(self, reading: Reading, number: int) -> Sentence | None:
        """A piece; None if nothing of it has a sound. Raises OutOfMemory."""
        if not any(symbol.isalnum() for symbol in reading.symbols):
            return None
        ids: list[int] = []
        places: list[int] = []
        for symbol in reading.symbols:
            places.append(len(ids) + 1)  # a pad comes first
            ids += [IDS[symbol]] if symbol in IDS else []
        pcm, starts = self.network.speak(ids, self.voice.styles[len(ids) - 1], self.speed)
        words = [(starts[places[symbol]], span) for symbol, span in reading.words] if starts else []
        return Sentence(pcm, words)


def _middle(symbols: str) -> int:
    """Where to cut: behind a mark in the middle half, else behind a blank in it, else in the middle."""
    quarter = len(symbols) // 4
    inner = range(quarter, len(symbols) - quarter)
    marks = [place + 1 for place in inner if symbols[place] == " " and symbols[place - 1] in _MARKS]
    places = marks or [place + 1 for place in inner if symbols[place] == " "]
    return min(places, key=lambda place: abs(place - len(symbols) // 2), default=len(symbols) // 2)
