"""Synthetic audio, and the faults that the quality patrol looks for. PCM is float, (frames,), in [-1, 1]."""

import numpy as np
from numpy.typing import NDArray

Mono = NDArray[np.float64]


def s16le(signal: Mono) -> bytes:
    """As it is in a log."""
    return np.clip(np.rint(signal * 32768), -32768, 32767).astype("<i2").tobytes()


def sine(hz: float, seconds: float, rate_hz: int, level: float = 1.0) -> Mono:
    return np.asarray(level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz))


def babble(seconds: float, rate_hz: int, seed: int = 1) -> Mono:
    """Syllables of 60 to 240 ms with pauses between them, each of another pitch and timbre, fading at both ends."""
    chance = np.random.default_rng(seed)
    parts: list[Mono] = []
    while sum(map(len, parts)) < seconds * rate_hz:
        frames = int(chance.uniform(0.06, 0.24) * rate_hz)
        at = np.arange(frames) / rate_hz
        pitch = chance.uniform(90, 220)
        voice = sum(chance.uniform(0, 1) / k * np.sin(2 * np.pi * k * pitch * at) for k in range(1, 24))
        parts += [0.08 * voice * np.sin(np.pi * np.arange(frames) / frames) ** 0.5]
        parts += [np.zeros(int(chance.uniform(0.01, 0.12) * rate_hz))]
    return np.concatenate(parts)[: round(seconds * rate_hz)]


def with_dropouts(signal: Mono, rate_hz: int, length_s: float, count: int = 1) -> Mono:
    """`count` stretches of zeros, from where the signal is loudest, a second apart at least."""
    result, power, gap = signal.copy(), signal**2, rate_hz
    smooth = np.convolve(power, np.ones(rate_hz // 100), "same")
    smooth[: rate_hz // 10] = 0
    smooth[-rate_hz:] = 0
    for _ in range(count):
        begin = int(smooth.argmax())
        result[begin : begin + int(length_s * rate_hz)] = 0
        smooth[max(0, begin - gap) : begin + gap] = 0
    return result


def with_noise(signal: Mono, snr_db: float, seed: int = 2) -> Mono:
    """White noise, so far below the signal's mean power."""
    level = np.sqrt((signal**2).mean()) * 10 ** (-snr_db / 20)
    return np.asarray(signal + np.random.default_rng(seed).standard_normal(len(signal)) * level)


def cut_in_a_sound(signal: Mono, rate_hz: int, share: float) -> Mono:
    """The first `share` of the signal, and on to 15 ms after the next loud frame."""
    begin = int(share * len(signal))
    smooth = np.convolve(signal**2, np.ones(rate_hz // 100) / (rate_hz // 100), "same")
    loud = np.flatnonzero(smooth[begin:] > (signal**2).mean())
    return signal[: begin + int(loud[0]) + rate_hz * 15 // 1000] if len(loud) else signal[:begin]


def cut_in_a_pause(signal: Mono, rate_hz: int, share: float) -> Mono:
    """The first `share` of the signal, faded out over 100 ms, and 100 ms of silence."""
    kept = signal[: int(share * len(signal))].copy()
    fade = min(rate_hz // 10, len(kept))
    kept[len(kept) - fade :] *= np.linspace(1, 0, fade)
    return np.concatenate([kept, np.zeros(rate_hz // 10)])


def looping(signal: Mono, rate_hz: int, period_s: float, copies: int) -> Mono:
    """The signal, with the second from its middle on repeated in place of the rest."""
    begin = len(signal) // 2
    pattern = signal[begin - int(period_s * rate_hz) : begin]
    return np.concatenate([signal[:begin], np.tile(pattern, copies - 1)])
