"""Watermarks: inaudible marks in the audio itself, by a library that an operator installs. None is shipped (ADR 21)."""

import wave
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from bus.settings import SettingsError

GROUP: Final = "antiphon.watermarks"
_FULL_SCALE: Final = np.float32(32768.0)


class Watermark(Protocol):
    """An entry point of the group `antiphon.watermarks` is a class of this kind, without arguments.

    The engine host makes one, in a thread, before its models; loading weights belongs into its constructor.
    """

    def mark(self, pcm: NDArray[np.float32], *, rate_hz: int, job: str, first_frame: int) -> NDArray[np.float32]:
        """The next frames of a job with the mark in them: float32 in [-1, 1], (frames, channels), the same shape.

        A function of its arguments alone. A job may continue on another worker, at any frame: the mark of a frame must
        follow from the job's id and the frame's number, however the audio is cut. It runs on the device's thread.
        """
        ...

    def detect(self, pcm: NDArray[np.float32], *, rate_hz: int) -> float:
        """How sure it is that the audio bears its mark, from 0 to 1."""
        ...


def installed() -> str:
    """The name of the watermark of this installation; "" without one. Raises SettingsError for several."""
    point = _entry_point()
    return "" if point is None else point.name


def load() -> Watermark | None:
    """Make the watermark of this installation; None without one. Raises SettingsError, and all that it raises."""
    point = _entry_point()
    return None if point is None else point.load()()


def detect(path: Path) -> float | None:
    """How sure the installed watermark is that a WAV of 16 bits bears its mark; None without a watermark.

    Raises OSError, EOFError, wave.Error for a file that is no such WAV; SettingsError, and all that the watermark
    raises.
    """
    watermark = load()
    if watermark is None:
        return None
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2:
            raise wave.Error(f"its samples have {8 * file.getsampwidth()} bits, not 16")
        channels, rate_hz = file.getnchannels(), file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    pcm = samples[: len(samples) // channels * channels].reshape(-1, channels).astype(np.float32) / _FULL_SCALE
    return float(watermark.detect(pcm, rate_hz=rate_hz))


def _entry_point() -> EntryPoint | None:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if len(points) > 1:
        raise SettingsError(f"several watermarks are installed, {', '.join(sorted(points))}: keep one of them")
    return next(iter(points.values()), None)
