"""Integrated loudness: ITU-R BS.1770-5, K-weighting and two gates.

The K-weighting is a filter of finite length, applied by overlap-save: the response of the recommendation's two biquads,
cut after 0.1 s, where it is 100 dB below its beginning.
"""

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpuworker.quality.window import Window

_RESPONSE_S: Final = 0.1
_ABSOLUTE_GATE_LUFS: Final = -70.0
_RELATIVE_GATE_LU: Final = -10.0
#: Steps of 100 ms in a gating block of 400 ms.
_STEPS: Final = 4
_OFFSET_LUFS: Final = -0.691
#: The prototypes behind the recommendation's coefficients: corner, quality, and for the shelf its gain above.
_SHELF_HZ: Final = 1681.974450955533
_SHELF_Q: Final = 0.7071752369554196
_GAIN: Final = 10 ** (3.999843853973347 / 20)
_GAIN_AT_CORNER: Final = _GAIN**0.4996667741545416
_HIGH_PASS_HZ: Final = 38.13547087602444
_HIGH_PASS_Q: Final = 0.5003270373238773


@functools.cache
def _k_weighting(rate_hz: int) -> NDArray[np.float64]:
    """The filter's response in samples, from its poles and zeros at `rate_hz` by the bilinear transform.

    The analogue prototypes are those of the recommendation's tables at 48 kHz: a shelf of +4 dB at 1,682 Hz, and a
    high-pass at 38 Hz.
    """
    size = 1 << (2 * rate_hz - 1).bit_length()
    # Biquads by the bilinear transform, s = (1 - z) / (1 + z) / k with k = tan(pi f / rate), multiplied by powers of
    # 1 + z, which is 0 in the last bin; z is the delay of one sample.
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    plus, minus = 1 + z, 1 - z
    k = np.tan(np.pi * _SHELF_HZ / rate_hz)
    shelf = (_GAIN * minus**2 + _GAIN_AT_CORNER * k / _SHELF_Q * plus * minus + (k * plus) ** 2) / (
        minus**2 + k / _SHELF_Q * plus * minus + (k * plus) ** 2
    )
    k = np.tan(np.pi * _HIGH_PASS_HZ / rate_hz)
    below = minus**2 + k / _HIGH_PASS_Q * plus * minus + (k * plus) ** 2
    # The recommendation leaves this filter's gain above its corner a little above 1.
    high = minus**2 * (1 + k / _HIGH_PASS_Q + k * k) / below
    response = np.fft.irfft(shelf * high, size)
    return np.asarray(response[: int(_RESPONSE_S * rate_hz)])


class Loudness:
    """Mean squares of 100 ms of the K-weighted audio; a gating block is four of them."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        response = _k_weighting(rate_hz)
        self._step = rate_hz // 10
        self._before = np.zeros((len(response) - 1, channels), np.float32)
        self._size = 1 << (rate_hz + len(response) - 1).bit_length()
        self._transfer = np.fft.rfft(response, self._size).astype(np.complex64)[:, None]
        self._rest = np.zeros(0)
        self._powers: list[NDArray[np.float64]] = []

    def add(self, window: Window) -> None:
        """Weight a window, with the filter's reach before it."""
        pcm = np.concatenate([self._before, window.pcm])
        reach = len(self._before)
        self._before = pcm[len(pcm) - reach :]
        weighted = np.fft.irfft(np.fft.rfft(pcm, self._size, axis=0) * self._transfer, self._size, axis=0)
        # All channels count the same: left, right and centre; there are no others here.
        power = np.concatenate([self._rest, np.square(weighted[reach : len(pcm)]).sum(axis=1)])
        whole = len(power) // self._step * self._step
        self._powers.append(power[:whole].reshape(-1, self._step).mean(axis=1))
        self._rest = power[whole:]

    @property
    def lufs(self) -> float | None:
        """Integrated loudness; None for audio below 400 ms or below the absolute gate."""
        steps = np.concatenate([np.zeros(0), *self._powers])
        if len(steps) < _STEPS:
            return None
        blocks = np.convolve(steps, np.full(_STEPS, 1 / _STEPS), "valid")
        blocks = blocks[blocks > _power(_ABSOLUTE_GATE_LUFS)]
        if not len(blocks):
            return None
        blocks = blocks[blocks > blocks.mean() * 10 ** (_RELATIVE_GATE_LU / 10)]
        return round(float(_OFFSET_LUFS + 10 * np.log10(blocks.mean())), 2)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET_LUFS) / 10))
