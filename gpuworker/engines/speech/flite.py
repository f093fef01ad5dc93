"""flite: where the system keeps its libraries, its voices, and its speech, made in a helper process.

Its licence is permissive (that of CMU) and it is English only. Its voices have 16 kHz; `Resampler` brings them to the
engine's 22,050 Hz.
"""

import re
import unicodedata
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bus.voices import spellings
from gpuworker.engine import Completeness, EngineJob, Rejected, Voice
from gpuworker.engines.speech import ssml
from gpuworker.engines.speech.library import DEFAULTS, Sound
from gpuworker.engines.speech.resampler import Resampler, Samples
from gpuworker.engines.speech.speaker import Speaker
from gpuworker.engines.text.parts import Part
from gpuworker.engines.text.plain import plain_parts
from gpuworker.engines.text.spelling import MINUS

_PREFIX: Final = "flite-"
_VOICES: Final = (
    Voice(id="flite-slt", name="SLT (flite)", language="en-us", gender="female", ssml=False),
    Voice(id="flite-kal16", name="KAL, diphones (flite)", language="en-us", gender="male", ssml=False),
    Voice(id="flite-rms", name="RMS (flite)", language="en-us", gender="male", ssml=False),
    Voice(id="flite-awb", name="AWB, Scottish accent (flite)", language="en-us", gender="male", ssml=False),
)
_FOLDERS = ("/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/*-linux-gnu*", "/lib/*-linux-gnu*")
_NEEDED: Final = ("libflite", "libflite_cmulex", "libflite_usenglish")
_BLANK: Final = re.compile(r"\s")
_ASCII: Final = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": ", ", "…": "... "})  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Files:
    """The folder of the shared libraries, and the voices among them."""

    folder: Path
    voices: tuple[Voice, ...]


def find_flite() -> Files | None:
    """Find the libraries and their voices on this system; None if there are none."""
    root = Path("/")
    for pattern in _FOLDERS:
        for folder in sorted(root.glob(pattern.lstrip("/"))):
            if not all((folder / f"{name}.so.1").exists() for name in _NEEDED):
                continue
            voices = tuple(v for v in _VOICES if (folder / f"libflite_cmu_us_{_native(v.id)}.so.1").exists())
            if voices:
                return Files(folder, voices)
    return None


def open_flite() -> "Flite | None":
    """The installed libraries, not started; None if there are none."""
    files = find_flite()
    return Flite(files) if files else None


def readable(text: str) -> str:
    """`text` in ASCII, which is all that flite reads: accents are dropped, and letters that ASCII has not.

    White space of any kind is a blank, and a minus is a word: flite reads over its sign.
    """
    text = _BLANK.sub(" ", MINUS.sub("minus ", text))
    return unicodedata.normalize("NFKD", text.translate(_ASCII)).encode("ascii", "ignore").decode()


def _native(voice_id: str) -> str:
    """The library's own name of a voice."""
    return voice_id.removeprefix(_PREFIX)


class Flite:
    """A `Library`. It reports no words: it makes a sentence whole, without positions."""

    default_voice = "flite-slt"
    completeness = Completeness.NONE
    licence = "MIT-Festival"

    def __init__(self, files: Files) -> None:
        self.voices = files.voices
        names = [_native(voice.id) for voice in files.voices]
        self._speaker = Speaker("gpuworker.engines.speech.flite_process", [str(files.folder), *names])

    @property
    def pid(self) -> int | None:
        """The helper process, if it runs."""
        return self._speaker.pid

    def find(self, voice: str) -> str | None:
        """The id of a voice, whose case does not matter; None if it is not one of this library's."""
        return next((offered.id for offered in self.voices if offered.id == next(spellings(voice))), None)

    def similar(self, voice: str) -> Iterable[str]:  # all of them are candidates
        """Names to choose a suggestion from, for a voice that was not found."""
        return [offered.id for offered in self.voices]

    def check(self, job: EngineJob) -> None:
        """Raises Rejected for SSML, and for a `range` other than the default."""
        if job.params["range"] != DEFAULTS["range"]:
            raise Rejected("params.range", f"the voice {job.voice} cannot change its melody")
        if ssml.is_document(job.input):
            raise Rejected("input", f"is SSML, which the voice {job.voice} does not read")

    def parts(self, job: EngineJob) -> Iterable[Part]:
        """The sentences of a text, in order."""
        return plain_parts(job, "en-us")

    def facts(self, job: EngineJob) -> Mapping[str, Any]:  # as any library's
        """None."""
        return {}

    def start(self) -> None:
        """Start the helper process. Idempotent. Raises SpeakerFailed."""
        self._speaker.start()

    def stop(self) -> None:
        """End the helper process and every utterance in it. Idempotent."""
        self._speaker.stop()

    def speak(self, job: EngineJob, part: Part, frame: int) -> Generator[Sound, None, None]:
        """One part of `job`; nothing for a text without a letter or digit that flite can read. Raises SpeakerFailed."""
        text = readable(part.text)
        if not any(char.isalnum() for char in text):
            return
        resampler = Resampler()
        gain: float = job.params["volume"] / 100
        request = {
            "voice": _native(job.voice),
            "text": text,
            "stretch": 1 / job.params["speed"],
            # A `pitch` of 0 is an octave down, 100 one up.
            "f0_shift": 2 ** ((job.params["pitch"] - 50) / 50),
        }
        with closing(self._speaker.speak(request)) as pieces:
            for piece in pieces:
                yield from _sounds(resampler.push(piece.pcm) * gain)
        yield from _sounds(resampler.finish() * gain)


def _sounds(samples: Samples) -> Iterator[Sound]:
    if len(samples):
        yield Sound(samples.clip(-1.0, 1.0).astype(np.float32).reshape(-1, 1))
