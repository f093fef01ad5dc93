"""The order in which the device serves streams: least slack first. Pure; no I/O, no clock of its own.

Slack is the audio already made minus the audio already played, for a listener who began at the first block. All slacks
shrink at the same speed, so their order is the order of the instants at which the streams run dry, and that instant is
fixed when a block is made. A stream without a block yet counts as one that runs dry `COMFORT_S` after its arrival
(`group.Pace`): behind those about to fall silent, before all that are comfortably ahead.

On a device that is too slow for its streams some are always about to fall silent. One that is far ahead, as a download
is, would then never be served: a stream that has waited `STARVES_S` for a block comes before all others.
"""

import heapq
import math
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

#: Seconds after its last block at which a runnable stream is served, however far ahead it is.
STARVES_S: Final = 5.0


class Schedule(Generic[K]):
    """Runnable keys by the instant they run dry, paused ones by the instant they may go on. Each key is in it once."""

    def __init__(self) -> None:
        self._ready: list[tuple[float, int, K]] = []
        self._paused: list[tuple[float, int, K, float, float]] = []
        #: Number of the valid entry of each key; an entry with another number is stale.
        self._valid: dict[K, int] = {}
        self._count = 0
        #: Of the runnable keys.
        self._starves_at: dict[K, float] = {}
        #: No key of them starves before this instant.
        self._none_before = math.inf

    def ready(self, key: K, dry_at: float, starves_at: float = math.inf) -> None:
        """Put `key` among the runnable ones; it runs dry at `dry_at`, and comes first from `starves_at` on."""
        self._count += 1
        self._put(key, self._count, dry_at, starves_at)

    def pause(self, key: K, until: float, dry_at: float, starves_at: float = math.inf) -> None:
        """Make `key` runnable at `until`."""
        self._count += 1
        self._valid[key] = self._count
        self._starves_at.pop(key, None)
        heapq.heappush(self._paused, (until, self._count, key, dry_at, starves_at))

    def drop(self, key: K) -> None:
        """Take `key` out. Idempotent."""
        self._valid.pop(key, None)
        self._starves_at.pop(key, None)

    def _put(self, key: K, number: int, dry_at: float, starves_at: float) -> None:
        self._valid[key] = number
        heapq.heappush(self._ready, (dry_at, number, key))
        if starves_at < math.inf:
            self._starves_at[key] = starves_at
            self._none_before = min(self._none_before, starves_at)
        else:
            self._starves_at.pop(key, None)

    def pop(self, now: float) -> K | None:
        """Take out the runnable key that starves longest, or else runs dry first; None if none is runnable now."""
        while self._paused and self._paused[0][0] <= now:
            _, number, key, dry_at, starves_at = heapq.heappop(self._paused)
            if self._valid.get(key) == number:
                self._put(key, number, dry_at, starves_at)
        if now >= self._none_before and (starving := self._starving(now)) is not None:
            self.drop(starving)  # its entry is stale from here on
            return starving
        while self._ready:
            _, number, key = heapq.heappop(self._ready)
            if self._valid.get(key) == number:
                self.drop(key)
                return key
        return None

    def _starving(self, now: float) -> K | None:
        """The key that starves longest. Looks at all of them, but only about as often as one may have begun to."""
        first = min(self._starves_at, key=self._starves_at.__getitem__, default=None)
        self._none_before = math.inf if first is None else self._starves_at[first]
        return first if self._none_before <= now else None

    def wait_s(self, now: float) -> float | None:
        """Seconds until a key is runnable: 0 if one is, None if the schedule is empty."""
        self._clean()
        if self._ready:
            return 0.0
        return max(0.0, self._paused[0][0] - now) if self._paused else None

    def _clean(self) -> None:
        while self._ready and self._valid.get(self._ready[0][2]) != self._ready[0][1]:
            heapq.heappop(self._ready)
        while self._paused and self._valid.get(self._paused[0][2]) != self._paused[0][1]:
            heapq.heappop(self._paused)
