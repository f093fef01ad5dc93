"""Audio in windows of one second, whatever the sizes of the blocks that it came in: measures do not depend on them."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
#: Steps of a second: levels and spectra are of 20 ms.
STEPS_PER_S: Final = 50
#: The level of digital silence, for logarithms: 120 dB below full scale.
FLOOR: Final = 1e-12


class Window(NamedTuple):
    """One second of audio, or the rest at the end of a job."""

    #: s16, (frames, channels), as it is in the log.
    raw: NDArray[np.int16]
    #: The same of full scale, float32, (frames, channels), in [-1, 1).
    pcm: Samples
    #: Mean of the channels, (frames,).
    mono: Samples


class Windows:
    """Gathers s16le of any sizes into windows of `STEPS_PER_S` steps."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self.step_frames = max(1, rate_hz // STEPS_PER_S)
        self._channels = channels
        self._size = self.step_frames * STEPS_PER_S * 2 * channels
        self._pending = bytearray()

    def add(self, pcm: bytes) -> Iterator[Window]:
        """Windows that `pcm`, whole frames, completes."""
        self._pending += pcm
        while len(self._pending) >= self._size:
            yield self._window(bytes(self._pending[: self._size]))
            del self._pending[: self._size]

    def rest(self) -> Iterator[Window]:
        """The last window, shorter than the others, if there is one."""
        if self._pending:
            yield self._window(bytes(self._pending))
            self._pending.clear()

    def _window(self, data: bytes) -> Window:
        raw = np.frombuffer(data, "<i2").reshape(-1, self._channels)
        pcm = raw.astype(np.float32) / np.float32(32768)
        mono = pcm[:, 0] if self._channels == 1 else pcm.mean(axis=1, dtype=np.float32)
        return Window(raw, pcm, mono)


def decibels(power: float) -> float:
    """A mean square of full scale in dBFS, rounded; -120 for silence."""
    return round(float(10 * np.log10(max(power, FLOOR))), 2)
