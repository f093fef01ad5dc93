"""Another sample rate without PyAV: slow (some 3 % of a core for a phone call), and good enough for one."""

import functools
import math
import sys
from array import array
from operator import mul
from typing import Final

from gateway.codecs.format import Format
from gateway.codecs.wave import SAMPLE_BYTES

#: Of the filter, to either side, at the lower of the two rates.
_CROSSINGS: Final = 12
#: Of the lower rate's band that is kept.
_BAND: Final = 0.94
#: Positions between two samples that are told apart.
_MAX_PHASES: Final = 1024


class Resampler:
    """s16le PCM of one rate to s16le PCM of another, at the same speed; the length is exact."""

    def __init__(self, form: Format, rate_hz: int, channels: int) -> None:
        self._form, self._rate_hz, self._channels = form, rate_hz, channels
        out_hz, self._out_channels = form.media(rate_hz, channels)
        common = math.gcd(rate_hz, out_hz)
        self._up, self._down = out_hz // common, rate_hz // common
        self._band = _BAND * min(1.0, self._up / self._down)
        self._half = math.ceil(_CROSSINGS / self._band)
        self._frames = self._out_frames = 0
        #: The samples still needed, of each channel; the first is frame `_first`.
        self._lines = [[0.0] * self._half for _ in range(self._out_channels)]
        self._first = -self._half

    def feed(self, pcm: bytes) -> bytes:
        self._frames += len(pcm) // (SAMPLE_BYTES * self._channels)
        return self._add(pcm, self._form.frames(self._frames, self._rate_hz, self._channels))

    def finish(self) -> bytes:
        silence = bytes(2 * self._half * SAMPLE_BYTES * self._channels)
        return self._add(silence, self._form.frames(self._frames, self._rate_hz, self._channels))

    def close(self) -> None:
        """It holds nothing but memory."""

    def _add(self, pcm: bytes, upto_frames: int) -> bytes:
        """What can be made with `pcm`, up to that many frames in all."""
        samples = array("h", pcm)
        if sys.byteorder == "big":
            samples.byteswap()
        for index, line in enumerate(self._lines):
            if self._out_channels == self._channels:
                line.extend(samples[index :: self._channels])
            else:
                apart = [samples[each :: self._channels] for each in range(self._channels)]
                line.extend(sum(frame) / self._channels for frame in zip(*apart, strict=True))
        made = array("h")
        phases = min(self._up, _MAX_PHASES)
        while self._out_frames < upto_frames:
            at, rest = divmod(self._out_frames * self._down, self._up)
            start = at - self._half + 1 - self._first
            if start + 2 * self._half > len(self._lines[0]):
                break
            taps = _taps(rest * phases // self._up, phases, self._band, self._half)
            for line in self._lines:
                value = round(sum(map(mul, taps, line[start : start + 2 * self._half])))
                made.append(max(-32_768, min(32_767, value)))
            self._out_frames += 1
        done = self._out_frames * self._down // self._up - self._half + 1 - self._first
        for line in self._lines:
            del line[:done]
        self._first += done
        if sys.byteorder == "big":
            made.byteswap()
        return made.tobytes()


@functools.lru_cache(maxsize=2 * _MAX_PHASES)
def _taps(phase: int, phases: int, band: float, half: int) -> list[float]:
    """Weights of the `2 * half` samples around a place `phase / phases` behind one: a Hann-windowed sinc."""
    weights: list[float] = []
    for index in range(2 * half):
        x = index - half + 1 - phase / phases
        sinc = math.sin(math.pi * band * x) / (math.pi * x) if x else band
        weights.append(sinc * (0.5 + 0.5 * math.cos(math.pi * x / half)))
    total = sum(weights)
    return [weight / total for weight in weights]
