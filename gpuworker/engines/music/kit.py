"""The drums: one-shots made once at load, three takes of each, so that a roll does not sound like a machine gun."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TAKES = 3


@dataclass(frozen=True, slots=True)
class Drum:
    """How a drum is made and placed in the mix."""

    make: Callable[["Workshop"], Tensor]
    gain: float
    pan: float
    #: Share that goes to the reverb.
    send: float


class Workshop:
    """Noise and envelopes of one take, on the CPU: every device gets the same drums."""

    def __init__(self, rate_hz: int, take: int) -> None:
        self.rate_hz = rate_hz
        self._random = torch.Generator().manual_seed(4_000 + take)
        #: Detuning of the take, a factor.
        self.tilt = 1.0 + 0.012 * (take - 1)

    def time(self, seconds: float) -> Tensor:
        """Seconds of each frame, (frames,) float32."""
        return torch.arange(round(seconds * self.rate_hz), dtype=torch.float32) / self.rate_hz

    def noise(self, seconds: float, low_hz: float, high_hz: float) -> Tensor:
        """White noise between two soft edges, RMS 1, (frames,) float32."""
        count = round(seconds * self.rate_hz)
        white = torch.randn(count, generator=self._random)
        hz = torch.arange(count // 2 + 1) * (self.rate_hz / count)
        shape = 1 / (1 + (low_hz / hz.clamp(min=1.0)) ** 4) / (1 + (hz / high_hz) ** 4)
        shaped: Tensor = torch.fft.irfft(torch.fft.rfft(white) * shape, count)
        return shaped / shaped.square().mean().sqrt()

    def sweep(self, seconds: float, end_hz: float, extra_hz: float, fall: float) -> Tensor:
        """A sine whose pitch falls to `end_hz`, (frames,) float32."""
        t = self.time(seconds)
        return torch.sin(2 * math.pi * self.tilt * (end_hz * t + extra_hz / fall * (1 - torch.exp(-fall * t))))


def _shaped(sound: Tensor, fall: float, rate_hz: int, rise_s: float = 0.0006) -> Tensor:
    """Decay; a short rise and a last 10 % that ends at 0; no mean."""
    t = torch.arange(sound.numel(), dtype=torch.float32) / rate_hz
    end = ((t[-1] - t) / (0.1 * t[-1])).clamp(0.0, 1.0)
    window = (t / rise_s).clamp(max=1.0) * torch.exp(-fall * t) * end
    out = sound * window
    return out - window * (out.sum() / window.sum())


def _kick(w: Workshop) -> Tensor:
    body = _shaped(w.sweep(0.42, 47, 150, 38), 9.5, w.rate_hz)
    click = _shaped(w.noise(0.42, 1500, 6000), 320, w.rate_hz) * 0.12
    return torch.tanh(body * 1.5) * 0.9 + click


def _snare(w: Workshop) -> Tensor:
    rattle = _shaped(w.noise(0.3, 1400, 9000), 17, w.rate_hz) * 0.3
    shell = _shaped(w.sweep(0.3, 178, 70, 45), 24, w.rate_hz) * 0.55
    return rattle + shell


def _noisy(
    seconds: float, low_hz: float, high_hz: float, fall: float, rise_s: float = 0.0006
) -> Callable[[Workshop], Tensor]:
    return lambda w: _shaped(w.noise(seconds, low_hz, high_hz), fall, w.rate_hz, rise_s) * 0.4


def _tuned(
    end_hz: float, extra_hz: float, fall: float, seconds: float, skin: float = 0.06
) -> Callable[[Workshop], Tensor]:
    def make(w: Workshop) -> Tensor:
        body = _shaped(w.sweep(seconds, end_hz, extra_hz, 24), fall, w.rate_hz)
        return body + _shaped(w.noise(seconds, 300, 3500), fall * 7, w.rate_hz) * skin

    return make


def _clap(w: Workshop) -> Tensor:
    out = torch.zeros(round(0.32 * w.rate_hz))
    for delay_s, loud in ((0.0, 0.7), (0.011, 0.75), (0.023, 1.0)):
        hand = _shaped(w.noise(0.28, 900, 5500), 60 if delay_s < 0.02 else 19, w.rate_hz) * 0.35 * loud
        start = round(delay_s * w.rate_hz)
        out[start : start + hand.numel()] += hand
    return out


def _cymbal(seconds: float, fall: float, low_hz: float, ping: float) -> Callable[[Workshop], Tensor]:
    def make(w: Workshop) -> Tensor:
        wash = _shaped(w.noise(seconds, low_hz, 13_000), fall, w.rate_hz, 0.002) * 0.3
        t = w.time(seconds)
        metal = torch.zeros_like(t)
        for hz in (2310.0, 3170.0, 4630.0, 5410.0, 7210.0):
            metal = metal + torch.sin(2 * math.pi * hz * w.tilt * t)
        return wash + _shaped(metal, fall * 2.2, w.rate_hz) * ping

    return make


def _rim(w: Workshop) -> Tensor:
    return (
        _shaped(w.sweep(0.07, 1700, 200, 100), 75, w.rate_hz) * 0.4
        + _shaped(w.noise(0.07, 900, 7000), 110, w.rate_hz) * 0.2
    )


DRUMS: dict[str, Drum] = {
    "kick": Drum(_kick, 0.42, 0.0, 0.03),
    "snare": Drum(_snare, 0.42, 0.06, 0.3),
    "clap": Drum(_clap, 0.34, -0.05, 0.35),
    "rim": Drum(_rim, 0.26, 0.22, 0.3),
    "brush": Drum(_noisy(0.22, 1500, 7000, 16, 0.02), 0.16, 0.15, 0.3),
    "hat": Drum(_noisy(0.09, 7000, 15_000, 62), 0.13, -0.3, 0.08),
    "pedal": Drum(_noisy(0.06, 5000, 12_000, 80), 0.13, -0.3, 0.08),
    "openhat": Drum(_noisy(0.36, 6500, 15_000, 9), 0.12, -0.3, 0.12),
    "shaker": Drum(_noisy(0.11, 5000, 12_000, 34, 0.018), 0.11, 0.4, 0.15),
    "tambourine": Drum(_noisy(0.2, 6500, 14_000, 21), 0.1, 0.38, 0.2),
    "ride": Drum(_cymbal(0.9, 7.0, 6500, 0.09), 0.12, 0.34, 0.1),
    "crash": Drum(_cymbal(2.6, 1.9, 3200, 0.02), 0.26, -0.2, 0.25),
    "tomhigh": Drum(_tuned(150, 80, 9, 0.45), 0.36, -0.25, 0.25),
    "tommid": Drum(_tuned(112, 60, 8, 0.5), 0.38, 0.1, 0.25),
    "tomlow": Drum(_tuned(82, 50, 7, 0.6), 0.42, 0.32, 0.25),
    "conga": Drum(_tuned(235, 40, 15, 0.3), 0.24, 0.3, 0.25),
    "taiko": Drum(_tuned(74, 45, 6.5, 0.8, 0.12), 0.46, -0.08, 0.6),
    "boom": Drum(_tuned(43, 40, 2.6, 1.8, 0.05), 0.5, 0.0, 0.6),
}


def build(rate_hz: int, device: torch.device) -> dict[str, tuple[Tensor, ...]]:
    """Every drum, `TAKES` mono float32 one-shots each, scaled by its gain, on `device`."""
    shops = [Workshop(rate_hz, take) for take in range(TAKES)]
    return {name: tuple((drum.make(shop) * drum.gain).to(device) for shop in shops) for name, drum in DRUMS.items()}
