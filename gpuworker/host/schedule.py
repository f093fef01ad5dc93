"""The order in which the device serves streams: least slack first. Pure; no I/O, no clock of its own.

Slack is the audio already made minus the audio already played, for a listener who began at the first block. All slacks
shrink at the same speed, so their order is the order of the instants at which the streams run dry, and that instant is
fixed when a block is made. A stream without a block yet counts as one that runs dry `COMFORT_S` after its arrival
(`group.Pace`): behind those about to fall silent, before all that are comfortably ahead.
"""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Schedule(Generic[K]):
    """Runnable keys by the instant they run dry, paused ones by the instant they may go on. Each key is in it once."""

    def __init__(self) -> None:
        self._ready: list[tuple[float, int, K]] = []
        self._paused: list[tuple[float, int, K, float]] = []
        #: Number of the valid entry of each key; an entry with another number is stale.
        self._valid: dict[K, int] = {}
        self._count = 0

    def ready(self, key: K, dry_at: float) -> None:
        """Put `key` among the runnable ones; it runs dry at `dry_at`."""
        self._count += 1
        self._valid[key] = self._count
        heapq.heappush(self._ready, (dry_at, self._count, key))

    def pause(self, key: K, until: float, dry_at: float) -> None:
        """Make `key` runnable at `until`."""
        self._count += 1
        self._valid[key] = self._count
        heapq.heappush(self._paused, (until, self._count, key, dry_at))

    def drop(self, key: K) -> None:
        """Take `key` out. Idempotent."""
        self._valid.pop(key, None)

    def pop(self, now: float) -> K | None:
        """Take out the runnable key that runs dry first and return it; None if none is runnable now."""
        while self._paused and self._paused[0][0] <= now:
            _, number, key, dry_at = heapq.heappop(self._paused)
            if self._valid.get(key) == number:
                heapq.heappush(self._ready, (dry_at, number, key))
        while self._ready:
            _, number, key = heapq.heappop(self._ready)
            if self._valid.get(key) == number:
                del self._valid[key]
                return key
        return None

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
