"""Measurements of a piece of audio. PCM is float, (frames, channels), in [-1, 1]."""

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]


def integrated_lufs(pcm: Audio, rate_hz: int) -> float:
    """BS.1770 loudness, gated."""
    import pyloudnorm  # it brings scipy, which every test process would load to collect the tests

    return float(pyloudnorm.Meter(rate_hz).integrated_loudness(pcm.astype(np.float64)))


def peak_dbfs(pcm: Audio) -> float:
    """Of the loudest sample."""
    return float(20 * np.log10(np.abs(pcm).max() + 1e-12))


def longest_silence_s(pcm: Audio, rate_hz: int, floor_dbfs: float = -60.0) -> float:
    """Longest stretch of 20 ms windows whose RMS over all channels is below `floor_dbfs`."""
    window = rate_hz // 50
    whole = pcm[: len(pcm) // window * window].reshape(-1, window * pcm.shape[1])
    quiet = np.sqrt(np.mean(whole.astype(np.float64) ** 2, axis=1)) < 10 ** (floor_dbfs / 20)
    return _longest_run(quiet) / 50


def dc_offset(pcm: Audio) -> float:
    """The largest mean of a channel."""
    return float(np.abs(pcm.mean(axis=0, dtype=np.float64)).max())


def clip_runs(pcm: Audio, limit: float = 0.999) -> int:
    """How often three or more samples in a row stand at the limit."""
    edges = np.diff(np.concatenate(([0], (np.abs(pcm).max(axis=1) >= limit).astype(np.int8), [0])))
    return int(((np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)) >= 3).sum())


def click_ratio(pcm: Audio, frame: int, around: int = 2_400) -> float:
    """The sharpest bend within two samples of `frame`, over the sharpest one of its neighbourhood.

    About 1 or less where the signal goes on, far more where something jumps.
    """
    low, high = max(0, frame - around), min(len(pcm), frame + around)
    bends = np.abs(np.diff(pcm[low:high].astype(np.float64), n=2, axis=0)).max(axis=1)
    place = frame - low - 1
    near = np.zeros(len(bends), dtype=bool)
    near[max(0, place - 2) : place + 3] = True
    return float(bends[near].max() / (bends[~near].max() + 1e-9))


def pitch_classes(pcm: Audio, rate_hz: int, low_hz: float = 60.0, high_hz: float = 1_000.0) -> NDArray[np.float64]:
    """Shares of the energy of the twelve pitch classes from C, (12,), summing to 1."""
    size = 1 << 15
    mono = pcm.mean(axis=1, dtype=np.float64)
    hz = np.fft.rfftfreq(size, 1 / rate_hz)
    band = (hz >= low_hz) & (hz <= high_hz)
    classes = np.round(69 + 12 * np.log2(hz[band] / 440)).astype(int) % 12
    power = np.zeros(12)
    for start in range(0, len(mono) - size, size // 2):
        spectrum = np.abs(np.fft.rfft(mono[start : start + size] * np.hanning(size)))[band] ** 2
        power += np.bincount(classes, spectrum, 12)
    return np.asarray(power / power.sum())


def pulse_bpm(pcm: Audio, rate_hz: int, low_bpm: float, high_bpm: float) -> float:
    """Tempo of the low drums between two bounds, by autocorrelation of the energy below 150 Hz."""
    hop = rate_hz // 200
    mono = pcm.mean(axis=1, dtype=np.float64)
    spectrum = np.fft.rfft(mono)
    spectrum[np.fft.rfftfreq(len(mono), 1 / rate_hz) > 150] = 0
    low = np.fft.irfft(spectrum, len(mono))
    energy = np.sqrt((low[: len(low) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1))
    rises = np.maximum(np.diff(energy), 0)
    rises -= rises.mean()
    lags = np.arange(round(60 / high_bpm * 200), round(60 / low_bpm * 200) + 1)
    # Four beats together: one beat alone is measured in steps of 5 ms.
    scores = [sum(float(np.dot(rises[: -n * lag], rises[n * lag :])) for n in (1, 2, 3, 4)) for lag in lags]
    coarse = 4 * int(lags[int(np.argmax(scores))])
    fine = range(coarse - 4, coarse + 5)
    best = max(fine, key=lambda lag: float(np.dot(rises[:-lag], rises[lag:])))
    return 60 / (best / 4 / 200)


def _longest_run(flags: NDArray[np.bool_]) -> int:
    edges = np.diff(np.concatenate(([0], flags.astype(np.int8), [0])))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return int(lengths.max(initial=0))
