"""Short spectra of audio and its bandwidth and flatness, window by window."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpuworker.quality.window import FLOOR, Samples, Window

#: Power of a frame below which it says nothing about the signal: -60 dBFS.
_QUIET: Final = 1e-6
_SHARE: Final = 0.99


class ShortSpectra:
    """Power spectra of frames of 40 ms, each 20 ms after the one before, under a Hann window."""

    def __init__(self, step_frames: int) -> None:
        self._step = step_frames
        self._weights = np.hanning(2 * step_frames).astype(np.float32)
        # So that the spectrum of a frame sums to its mean square.
        self._scale = np.float32(1 / (step_frames * float(np.square(self._weights).sum())))
        self._before: Samples = np.zeros(0, np.float32)

    def of(self, window: Window) -> NDArray[np.float32]:
        """Spectra of the frames that end in this window, (frames, bins)."""
        signal = np.concatenate([self._before, window.mono])
        count = max(0, len(signal) // self._step - 1)
        self._before = signal[count * self._step :][: 2 * self._step]
        if not count:
            return np.zeros((0, self._step + 1), np.float32)
        steps = signal[: (count + 1) * self._step].reshape(-1, self._step)
        frames = np.concatenate([steps[:-1], steps[1:]], axis=1) * self._weights
        spectra = np.fft.rfft(frames, axis=1)
        return np.asarray((spectra.real**2 + spectra.imag**2) * self._scale, np.float32)


class Spread:
    """Bandwidth and flatness of the sounding frames."""

    def __init__(self, rate_hz: int, step_frames: int) -> None:
        self._bin_hz = rate_hz / (2 * step_frames)
        self._sum = np.zeros(step_frames + 1)
        self._flatness: list[float] = []

    def add(self, spectra: NDArray[np.float32]) -> None:
        """Add the spectra of a window."""
        loud = spectra[spectra.sum(axis=1) > _QUIET]
        if not len(loud):
            return
        power = loud.sum(axis=0, dtype=np.float64)
        self._sum += power
        # Without the ends, which filters of converters remove.
        inner = power[len(power) // 50 + 1 : len(power) * 9 // 10] + FLOOR
        self._flatness.append(float(np.exp(np.log(inner).mean()) / inner.mean()))

    @property
    def bandwidth_hz(self) -> int | None:
        """99 % of the power is below; None without a sound."""
        total = float(self._sum.sum())
        if not total:
            return None
        return int(np.searchsorted(np.cumsum(self._sum), _SHARE * total) * self._bin_hz)

    @property
    def flatness(self) -> float | None:
        """Median over the seconds of geometric by arithmetic mean of the power spectrum; None without a sound."""
        return round(float(np.median(self._flatness)), 4) if self._flatness else None
