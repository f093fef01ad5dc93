"""flite seen from outside: found where the system keeps its libraries, asked through a process of its own.

Its licence is permissive (that of CMU) and it is English only. Its voices have 16 kHz; `Resampler` brings them to the
engine's 22 050 Hz.
"""

import functools
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuworker.engine import Voice
from gpuworker.engines.speech.speaker import Speaker

#: (frames,), in [-1, 1].
Samples = NDArray[np.float64]

DEFAULT_VOICE = "flite-slt"

_PREFIX = "flite-"
_VOICES = (
    Voice(id="flite-slt", name="SLT (flite)", language="en-us", gender="female"),
    Voice(id="flite-kal16", name="KAL, diphones (flite)", language="en-us", gender="male"),
    Voice(id="flite-rms", name="RMS (flite)", language="en-us", gender="male"),
    Voice(id="flite-awb", name="AWB, Scottish accent (flite)", language="en-us", gender="male"),
)
_FOLDERS = ("/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/*-linux-gnu*", "/lib/*-linux-gnu*")
_NEEDED = ("libflite", "libflite_cmulex", "libflite_usenglish")
_ASCII = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": ", ", "…": "... "})  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Files:
    folder: Path
    voices: tuple[Voice, ...]


def find_flite() -> Files | None:
    """Where the libraries lie and which of the voices are there, or None."""
    root = Path("/")
    for pattern in _FOLDERS:
        for folder in sorted(root.glob(pattern.lstrip("/"))):
            if not all((folder / f"{name}.so.1").exists() for name in _NEEDED):
                continue
            voices = tuple(v for v in _VOICES if (folder / f"libflite_cmu_us_{_native(v.id)}.so.1").exists())
            if voices:
                return Files(folder, voices)
    return None


def speaker(files: Files) -> Speaker:
    names = [_native(voice.id) for voice in files.voices]
    return Speaker("gpuworker.engines.speech.flite_process", [str(files.folder), *names])


def request(voice_id: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """All that `flite_process` needs to know besides `text`. A `pitch` of 0 is an octave down, 100 one up."""
    return {
        "voice": _native(voice_id),
        "stretch": 1 / params["speed"],
        "f0_shift": 2 ** ((params["pitch"] - 50) / 50),
    }


def _native(voice_id: str) -> str:
    return voice_id.removeprefix(_PREFIX)


def readable(text: str) -> str:
    """`text` in ASCII, which is all that flite reads: accents are dropped, and so is what has no such letter."""
    return unicodedata.normalize("NFKD", text.translate(_ASCII)).encode("ascii", "ignore").decode()


_UP, _DOWN = 441, 320  # 16 000 Hz to 22 050 Hz
_TAPS = 32


@functools.cache
def _filters() -> NDArray[np.float64]:
    """(phase, tap): a windowed sinc below 8 kHz for each of the `_UP` places between two samples."""
    phases = np.arange(_UP)[:, None] / _UP
    distance = np.arange(_TAPS)[None, :] - (_TAPS // 2 - 1) - phases
    window = np.kaiser(2 * _TAPS * _UP + 1, 9.0)
    taper = window[np.rint((distance / (_TAPS // 2) + 1) * _TAPS * _UP).astype(np.int64).clip(0, 2 * _TAPS * _UP)]
    taps = 0.95 * np.sinc(0.95 * distance) * taper
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), dtype=np.float64)


class Resampler:
    """16 kHz s16le in, 22 050 Hz float64 in [-1, 1] out, of one utterance, as it comes."""

    def __init__(self) -> None:
        self._held: NDArray[np.float64] = np.zeros(_TAPS // 2 - 1)
        #: Frames in and out so far.
        self._in, self._out = 0, 0
        #: Index in the input of the first held frame.
        self._first = -(_TAPS // 2 - 1)

    def push(self, pcm: bytes) -> Samples:
        """What `pcm` makes computable; shape (frames,), perhaps empty."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32768
        self._in += len(samples)
        return self._advance(samples, (self._in - _TAPS // 2) * _UP // _DOWN)

    def finish(self) -> Samples:
        """The rest, as if silence followed."""
        return self._advance(np.zeros(_TAPS), self._in * _UP // _DOWN)

    def _advance(self, samples: NDArray[np.float64], until: int) -> Samples:
        self._held = np.concatenate((self._held, samples))
        if until <= self._out:
            return np.zeros(0)
        places = np.arange(self._out, until) * _DOWN
        first = places // _UP - (_TAPS // 2 - 1) - self._first
        windows = self._held[first[:, None] + np.arange(_TAPS)[None, :]]
        made = (windows * _filters()[places % _UP]).sum(axis=1).clip(-1.0, 1.0)
        self._out = until
        keep = until * _DOWN // _UP - (_TAPS // 2 - 1) - self._first
        self._held, self._first = self._held[keep:], self._first + keep
        return np.asarray(made)
