"""Levels of 20 ms, silences, dropouts and the end of audio, window by window."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpuworker.quality.window import FLOOR, STEPS_PER_S, Samples, Window, decibels

#: Shortest run of zeros that is a dropout.
_SHORTEST_S: Final = 0.005
#: Audio right before and after a dropout.
_EDGE_S: Final = 0.0025
#: Audio before the edge, that the edge is compared with: a sound that ends by itself has become quiet.
_BODY_S: Final = 0.02
_END_S: Final = 0.01


class Envelope:
    """RMS levels of 20 ms, dBFS, all channels together."""

    def __init__(self, step_frames: int) -> None:
        self._step = step_frames
        self._levels: list[NDArray[np.float32]] = []

    def add(self, window: Window) -> None:
        """Measure a window; a rest below 20 ms is left out."""
        whole = len(window.mono) // self._step
        power = (
            np.square(window.pcm[: whole * self._step]).reshape(whole, self._step * window.pcm.shape[1]).mean(axis=1)
        )
        self._levels.append(10 * np.log10(power + np.float32(FLOOR)))

    @property
    def levels(self) -> NDArray[np.float32]:
        """All levels until now, (steps,)."""
        return np.concatenate([np.zeros(0, np.float32), *self._levels])


class Silences:
    """Silences of the audio and its noise floor, from the levels of 20 ms."""

    def __init__(self, levels: NDArray[np.float32], silence_dbfs: float) -> None:
        self._levels = levels
        self._quiet = levels < silence_dbfs

    @property
    def is_silent(self) -> bool:
        """Whether there is no sound at all; True without audio."""
        return bool(self._quiet.all())

    @property
    def share(self) -> float:
        """Share of the steps that are silent."""
        return round(float(self._quiet.mean()), 4) if len(self._quiet) else 1.0

    @property
    def longest_gap_s(self) -> float:
        """Longest silence between two sounds."""
        loud = np.flatnonzero(~self._quiet)
        return float(np.diff(loud).max(initial=1) - 1) / STEPS_PER_S

    @property
    def snr_db(self) -> float | None:
        """From the 5th to the 95th percentile of the levels: an estimate of signal to noise; None below a second."""
        if len(self._levels) < STEPS_PER_S or self.is_silent:
            return None
        low, high = np.percentile(self._levels, [5, 95])
        return round(float(high - low), 1)


class Dropouts:
    """Runs of zeros that begin within a sound and end before another.

    A sound that fades before its silence, as before a pause, is none.
    """

    def __init__(self, rate_hz: int, edge_dbfs: float) -> None:
        """`edge_dbfs`: level of the last 2.5 ms before the zeros, from which on the cut counts."""
        self.count = 0
        self._loud = 10 ** (edge_dbfs / 20)
        self._shortest = max(1, int(rate_hz * _SHORTEST_S))
        self._edge = max(1, int(rate_hz * _EDGE_S))
        self._body = max(1, int(rate_hz * _BODY_S))
        self._before: Samples = np.zeros(0, np.float32)
        #: Zeros at the end of the windows until now, and whether they began within a sound.
        self._open = 0
        self._is_cut = False

    def add(self, window: Window) -> None:
        """Count the dropouts that end in this window."""
        zero = np.abs(window.raw).max(axis=1) == 0
        edges = np.flatnonzero(np.diff(np.concatenate(([False], zero, [False])).astype(np.int8)))
        signal = np.concatenate([self._before, window.mono])
        shift = len(self._before)
        if self._open and not zero[0]:
            self._close(self._open)
            self._open = 0
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if begin or not self._open:
                self._is_cut = self._ends_within_a_sound(signal[: shift + begin])
            length = end - begin + (0 if begin else self._open)
            if end == len(zero):
                self._open = length
            else:
                self._close(length)
                self._open = 0
        self._before = signal[-(self._body + self._edge) :]

    def _close(self, length: int) -> None:
        self.count += self._is_cut and length >= self._shortest

    def _ends_within_a_sound(self, signal: Samples) -> bool:
        if len(signal) < self._edge + self._body:
            return False
        edge, body = signal[-self._edge :], signal[-self._edge - self._body : -self._edge]
        level = float(np.sqrt(np.square(edge).mean()))
        return level > self._loud and level > 0.5 * float(np.sqrt(np.square(body).mean()))


class Ending:
    """The level of the last 10 ms."""

    def __init__(self, rate_hz: int) -> None:
        self._frames = max(1, int(rate_hz * _END_S))
        self._last: Samples = np.zeros(0, np.float32)

    def add(self, window: Window) -> None:
        """Keep the end of a window."""
        self._last = np.concatenate([self._last, window.mono[-self._frames :]])[-self._frames :]

    @property
    def dbfs(self) -> float | None:
        """None without audio."""
        return decibels(float(np.square(self._last).mean())) if len(self._last) else None
