"""Peak, clipping and offset of audio, window by window."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpuworker.quality.window import Samples, Window, decibels

_OVERSAMPLING: Final = 4
_TAPS_PER_PHASE: Final = 12
#: Samples in a row at full scale that are one clip.
_CLIP_SAMPLES: Final = 3
_HIGHEST: Final = 32767
_LOWEST: Final = -32768


def _interpolator() -> NDArray[np.float64]:
    """The low-pass filter of 48 taps by phases, (4, 12): a sinc at a quarter of the rate under a Hann window."""
    taps = _OVERSAMPLING * _TAPS_PER_PHASE
    at = np.arange(taps) - (taps - 1) / 2
    filter_ = np.sinc(at / _OVERSAMPLING) * np.hanning(taps + 2)[1:-1]
    phases = filter_.reshape(_TAPS_PER_PHASE, _OVERSAMPLING).T
    # Each phase passes a constant unchanged.
    return np.asarray(phases / phases.sum(axis=1, keepdims=True))


class TruePeak:
    """The highest value, between samples too: four times oversampled as in ITU-R BS.1770-5, annex 2, by our own filter.

    It is computed only between samples of which one is at least 0.8 of the highest.
    """

    def __init__(self, channels: int) -> None:
        self._phases = _interpolator()[:, ::-1]
        self._before = np.zeros((_TAPS_PER_PHASE - 1, channels), np.float32)
        self._peak = 0.0

    def add(self, window: Window) -> None:
        """Measure a window and the filter's reach before it."""
        pcm = np.concatenate([self._before, window.pcm])
        self._before = pcm[len(pcm) - (_TAPS_PER_PHASE - 1) :]
        size = np.abs(pcm)
        sample_peak = float(size.max(initial=0.0))
        if sample_peak < self._peak / 2:
            return
        self._peak = max(self._peak, sample_peak)
        for channel in range(pcm.shape[1]):
            self._interpolate(pcm[:, channel], size[:, channel])

    def _interpolate(self, signal: Samples, size: Samples) -> None:
        """Values between samples wherever two neighbours are both close to the highest one."""
        low = 0.8 * self._peak
        near = np.flatnonzero((size[:-1] >= low) | (size[1:] >= low))
        starts = near[(near >= _TAPS_PER_PHASE // 2) & (near < len(signal) - _TAPS_PER_PHASE // 2)]
        if not len(starts):
            return
        reach = np.arange(-_TAPS_PER_PHASE // 2 + 1, _TAPS_PER_PHASE // 2 + 1)
        between = signal[starts[:, None] + reach] @ self._phases.T
        self._peak = max(self._peak, float(np.abs(between).max()))

    @property
    def dbtp(self) -> float:
        """dB of full scale; -120 for silence."""
        return decibels(self._peak**2)


class Clips:
    """Runs of three samples or more at full scale, in any channel."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._last = np.zeros((_CLIP_SAMPLES, channels), bool)

    def add(self, window: Window) -> None:
        """Count the runs whose third sample is in this window."""
        full = (window.raw == _HIGHEST) | (window.raw == _LOWEST)
        if not (full.any() or self._last.any()):
            return
        full = np.concatenate([self._last, full])
        third = full[2:] & full[1:-1] & full[:-2]
        # A run counts where its third sample is the first one that ends three.
        self.count += int((third[1:] & ~third[:-1]).sum())
        self._last = full[-_CLIP_SAMPLES:]


class Offset:
    """The mean of each channel."""

    def __init__(self, channels: int) -> None:
        self._sum = np.zeros(channels)
        self._frames = 0

    def add(self, window: Window) -> None:
        """Add a window to the mean."""
        self._sum += window.pcm.sum(axis=0, dtype=np.float64)
        self._frames += len(window.pcm)

    @property
    def value(self) -> float:
        """The largest absolute mean of a channel, of full scale."""
        return round(float(np.abs(self._sum).max() / max(1, self._frames)), 5)
