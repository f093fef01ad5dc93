"""Resampling of flite's 16 kHz audio to the engine's 22,050 Hz."""

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: (frames,), in [-1, 1].
Samples = NDArray[np.float64]

#: 16,000 Hz times 441 / 320 is 22,050 Hz.
_UP: Final = 441
_DOWN: Final = 320
_TAPS: Final = 32


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
    """Converts one utterance as it arrives: s16le at 16 kHz to float64 in [-1, 1] at 22,050 Hz."""

    def __init__(self) -> None:
        self._held: NDArray[np.float64] = np.zeros(_TAPS // 2 - 1)
        #: Frames in and out so far.
        self._in = 0
        self._out = 0
        #: Index in the input of the first held frame.
        self._first = -(_TAPS // 2 - 1)

    def push(self, pcm: bytes) -> Samples:
        """The samples that can be computed now that `pcm` has arrived; shape (frames,), perhaps empty."""
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
        self._held = self._held[keep:]
        self._first += keep
        return np.asarray(made)
