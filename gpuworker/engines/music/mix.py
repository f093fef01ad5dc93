"""Mixing and mastering: reverb, echo, levelling and a soft ceiling, each with a memory bounded in blocks."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Length of a reverb tail in blocks; also how far echoes reach.
REVERB_BLOCKS = 3
#: Blocks before a block that its content depends on.
PREROLL_BLOCKS = REVERB_BLOCKS
#: Highest sample, -0.63 dBFS.
CEILING = 0.93
_KNEE = 0.62
#: Gain of the room's answer to a send, before a style's `wet`.
_ROOM_GAIN = 0.42
_TARGET_LUFS = -15.8
_RATIO = 0.75
_BOOST = 4.0
_CUT = 0.25


@dataclass(frozen=True, slots=True)
class Bus:
    """One block of one piece before the room: `dry` (2, frames), `send` (frames,) to the reverb, `echo` (2, frames)."""

    dry: Tensor
    send: Tensor
    echo: Tensor


class Room:
    """An impulse response in `REVERB_BLOCKS` partitions of a block each; convolution by spectra."""

    def __init__(self, block: int, rate_hz: int, device: torch.device, *, hall: bool) -> None:
        self.block = block
        length = REVERB_BLOCKS * block
        random = torch.Generator().manual_seed(97 if hall else 53)
        t = torch.arange(length, dtype=torch.float32) / rate_hz
        noise = torch.randn(2, length, generator=random)
        dark = torch.fft.irfft(torch.fft.rfft(noise) * _tilt(length, rate_hz, 180, 2400), length)
        light = torch.fft.irfft(torch.fft.rfft(noise) * _tilt(length, rate_hz, 180, 9000), length)
        fall, rise_s, wait_s = (2.6, 0.03, 0.018) if hall else (7.5, 0.008, 0.006)
        swell = ((t - wait_s) / rise_s).clamp(0.0, 1.0) * ((t[-1] - t) / 0.3).clamp(0.0, 1.0)
        response = (dark * torch.exp(-fall * t) + light * torch.exp(-2.4 * fall * t)) * swell
        response = response * (_ROOM_GAIN / response.square().sum(1, keepdim=True).sqrt())
        parts = response.reshape(2, REVERB_BLOCKS, block).permute(1, 0, 2).contiguous()
        self._spectra = torch.fft.rfft(parts, 2 * block).to(device)

    def spectrum(self, before: Tensor, now: Tensor) -> Tensor:
        """The spectrum of two consecutive blocks of a send, each (frames,)."""
        out: Tensor = torch.fft.rfft(torch.cat([before, now]))
        return out

    def wet(self, spectra: list[Tensor]) -> Tensor:
        """The room's answer in the newest block, (2, frames); `spectra` newest first, `REVERB_BLOCKS` of them."""
        total = spectra[0] * self._spectra[0]
        for index in range(1, REVERB_BLOCKS):
            total = total + spectra[index] * self._spectra[index]
        answer: Tensor = torch.fft.irfft(total, 2 * self.block)
        return answer[:, self.block :]


class LoudnessMeter:
    """Loudness of a block as BS.1770 weights it, without its gates."""

    def __init__(self, block: int, rate_hz: int, device: torch.device) -> None:
        hz = torch.arange(block // 2 + 1) * (rate_hz / block)
        shelf = 1 + (10**0.4 - 1) / (1 + (1500 / hz.clamp(min=1.0)) ** 4)
        low_cut = 1 / (1 + (38 / hz.clamp(min=1.0)) ** 4)
        self._weights = (shelf * low_cut * (2.0 / block**2)).to(device)

    def power(self, dry: Tensor) -> float:
        """Weighted mean square, both channels added."""
        spectrum = torch.fft.rfft(dry)
        energy = (spectrum.real.square() + spectrum.imag.square()).sum(0)
        return float((energy * self._weights).sum())


def level(powers: list[float]) -> float:
    """The gain that brings a run of blocks of these powers towards the target, not all the way."""
    mean = sum(powers) / len(powers)
    lufs = -0.691 + 10 * math.log10(mean + 1e-9)
    return min(_BOOST, max(_CUT, 10 ** (_RATIO * (_TARGET_LUFS - lufs) / 20)))


def echoes(history: Tensor, block: int, delay: int) -> Tensor:
    """The newest block of up to four echoes, (2, block), sides swapped each time; `history` (2, blocks of the past)."""
    out = torch.zeros_like(history[:, -block:])
    length = history.shape[1]
    for turn in range(1, 5):
        start = length - block - turn * delay
        if start < 0:
            break
        repeat = history[:, start : start + block] * 0.52**turn
        out = out + (repeat.flip(0) if turn % 2 else repeat)
    return out


def soften(mix: Tensor) -> Tensor:
    """Straight up to the knee, then bent so that nothing passes the ceiling. Without memory."""
    size = mix.abs()
    span = CEILING - _KNEE
    bent = _KNEE + span * torch.tanh((size - _KNEE).clamp(min=0.0) / span)
    return torch.where(size > _KNEE, torch.copysign(bent, mix), mix)


def _tilt(length: int, rate_hz: int, low_hz: float, high_hz: float) -> Tensor:
    hz = torch.arange(length // 2 + 1) * (rate_hz / length)
    return 1 / (1 + (low_hz / hz.clamp(min=1.0)) ** 4) / (1 + (hz / high_hz) ** 2)
