"""Loops: sounds that follow themselves again and again, as of a model that does not find its end.

The spectrum of each 20 ms in twelve bands is compared with those of 0.2 to 4 s before. A loop is a distance at which
the sounds are equal for twice its length and more: that is three equal copies.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_BANDS: Final = 12
_SHORTEST: Final = 10
_LONGEST: Final = 200
#: Mean difference of the bands, dB, up to which two frames are equal.
_EQUAL_DB: Final = 4.0
#: Bands below this level are equal.
_FLOOR_DB: Final = -70.0
#: A pattern changes: its bands have a standard deviation of at least so much, dB. A held tone is no loop.
_CHANGE_DB: Final = 4.0
#: Unequal frames that a run survives for each equal one.
_FORGIVEN: Final = 3.0


class Repetition:
    """Runs of equal frames by distance."""

    def __init__(self, step_frames: int) -> None:
        edges = np.geomspace(1, step_frames, _BANDS + 1).astype(int)
        edges[0] = 1
        self._starts = np.maximum.accumulate(np.maximum(edges[:-1], np.arange(1, _BANDS + 1)))
        self._bands = np.full((_LONGEST, _BANDS), _FLOOR_DB, np.float32)
        self._lags = np.arange(_SHORTEST, _LONGEST + 1)
        self._runs = np.zeros(len(self._lags))
        self._most = 1.0

    def add(self, spectra: NDArray[np.float32]) -> None:
        """Compare the frames of a window with those before them."""
        if not len(spectra):
            return
        power = np.add.reduceat(spectra, self._starts, axis=1)
        bands = np.maximum(10 * np.log10(power + np.float32(1e-12)), np.float32(_FLOOR_DB))
        history = np.concatenate([self._bands, bands])
        at = np.arange(_LONGEST, len(history))
        past = history[at[:, None] - self._lags]
        difference = np.abs(past - history[at][:, None, :]).mean(axis=2)
        sounds = _sounding(history[at])
        gains = np.where(difference <= _EQUAL_DB, 1.0, -_FORGIVEN)
        for index, gain in enumerate(gains):
            if sounds[index]:
                self._runs = np.maximum(0.0, self._runs + gain)
        self._bands = history[-_LONGEST:]
        self._judge()

    def _judge(self) -> None:
        # Silent frames are in no run, so a run is compared with the sounding part of its distance.
        sounding = np.cumsum(_sounding(self._bands)[::-1])[self._lags - 1]
        copies = 1 + self._runs / np.maximum(sounding, _SHORTEST)
        best = int(copies.argmax())
        if copies[best] <= self._most:
            return
        pattern = self._bands[-self._lags[best] :]
        if pattern.std(axis=0).mean() >= _CHANGE_DB:
            self._most = float(copies[best])

    @property
    def repeats(self) -> float:
        """Copies of the pattern that followed itself most often; 1: none did."""
        return round(self._most, 2)


def _sounding(bands: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which frames are not silent."""
    return np.asarray(bands.max(axis=1) > _FLOOR_DB + 1)
