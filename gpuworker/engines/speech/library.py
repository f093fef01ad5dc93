"""A speech library as the engine uses it. `espeak.py` and `flite.py` have one each."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from gpuworker.engine import Completeness, EngineJob, Mark, Pcm, Voice
from gpuworker.engines.text.parts import Part

#: Sampling rate of the engine's audio, whatever the library's own is.
RATE_HZ: Final = 22_050
#: The values of `params` that a job leaves out.
DEFAULTS: Final[Mapping[str, Any]] = {
    "speed": 1.0,
    "pitch": 50,
    "range": 50,
    "volume": 100,
    "text": "plain",
    "breaks": False,
}


class Sound(NamedTuple):
    """A piece of an utterance."""

    #: float32, shape (frames, 1), in [-1, 1], at `RATE_HZ`; perhaps empty.
    pcm: Pcm
    #: The words that begin in it.
    words: tuple[Mark, ...] = ()
    #: (start, end) in the input of tokens without a letter or digit that were not spoken.
    skipped: tuple[tuple[int, int], ...] = ()


class Library(Protocol):
    """An installed library. It runs in a helper process, from `start` or the first utterance to `stop`."""

    @property
    def voices(self) -> Sequence[Voice]:
        """The voices that are offered."""
        ...

    @property
    def default_voice(self) -> str:
        """Id of the voice of a job that names none; it may be missing from `voices`."""
        ...

    @property
    def licence(self) -> str:
        """SPDX expression."""
        ...

    @property
    def completeness(self) -> Completeness:
        """Whether the library reports enough to know that a text was spoken to its end."""
        ...

    @property
    def pid(self) -> int | None:
        """The helper process, if it runs."""
        ...

    def find(self, voice: str) -> str | None:
        """The id of a voice, whose case does not matter; None if it is not one of this library's."""
        ...

    def similar(self, voice: str) -> Iterable[str]:
        """Names to choose a suggestion from, for a voice that was not found."""
        ...

    def check(self, job: EngineJob) -> None:
        """Raises Rejected for a job, complete with defaults, that this library cannot speak."""
        ...

    def parts(self, job: EngineJob) -> Iterable[Part]:
        """The parts of the input of a job that `check` has accepted, in order."""
        ...

    def facts(self, job: EngineJob) -> Mapping[str, Any]:
        """Facts of a spoken job for its `done` entry."""
        ...

    def start(self) -> None:
        """Start the helper process. Idempotent. Raises SpeakerFailed."""
        ...

    def stop(self) -> None:
        """End the helper process and every utterance in it. Idempotent."""
        ...

    def speak(self, job: EngineJob, part: Part, frame: int) -> Generator[Sound, None, None]:
        """One part of `job`, which begins at `frame`, as it is made. Closing the generator stops the library.

        Raises SpeakerFailed, and TextLost for a word that cannot be spoken, even alone.
        """
        ...
