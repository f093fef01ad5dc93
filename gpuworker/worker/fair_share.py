"""How many jobs a worker may take so that starts are shared by weight, as nginx shares requests among its upstreams.

Each worker counts its own starts and receives its rivals' counts in their heartbeats. A worker may be only a little
ahead of a rival, counted in starts per weight; one that is ahead leaves the next jobs to those behind. A rival that
starts nothing for `IDLE_S` (it is stuck in long jobs, or no job waits) is not waited for any longer, and the
starts that it was owed are dropped.

Pure: no I/O, and no clock but the one it is given.
"""

import math
from collections.abc import Callable
from typing import Final

#: A rival that has started nothing for so long holds no other worker back.
IDLE_S: Final = 2.0
#: How far a worker may be ahead of a rival, in starts of that rival.
_AHEAD: Final = 2.0
#: Counts arrive late: they are extrapolated at their last rate for so long.
_EXTRAPOLATE_S: Final = 0.3
_MIN_WAIT_S: Final = 0.005
_MAX_WAIT_S: Final = 0.1


class Rival:
    """A worker of another weight that serves the same models."""

    __slots__ = ("base_ours", "base_theirs", "moved_at", "ours_at_report", "rate", "reported_at", "starts", "weight")

    def __init__(self, weight: int, starts: int, ours: int, now: float) -> None:
        self.weight = weight
        self.starts = starts
        #: Both counts when the comparison began.
        self.base_theirs = starts
        self.base_ours = ours
        #: Our count at its last report.
        self.ours_at_report = ours
        self.reported_at = now
        #: When its count last grew.
        self.moved_at = -math.inf
        #: Its starts per second.
        self.rate = 0.0

    def report(self, starts: int, ours: int, now: float) -> None:
        """It has started `starts` jobs in all, this worker `ours`."""
        num_new = starts - self.starts
        elapsed_s = max(1e-3, now - self.reported_at)
        if num_new and now - self.moved_at > IDLE_S:
            # It was idle: compare from its last report on, so that neither side owes anything for that time.
            self.base_theirs = self.starts
            self.base_ours = self.ours_at_report
            self.rate = 0.0
        elif num_new:
            self.rate += (num_new / elapsed_s - self.rate) / 2
        if num_new:
            self.moved_at = now
        self.starts = starts
        self.reported_at = now
        self.ours_at_report = ours

    def starts_at(self, now: float) -> float:
        """Its starts since the comparison began, extrapolated to `now`."""
        return self.starts - self.base_theirs + self.rate * min(now - self.reported_at, _EXTRAPOLATE_S)


class FairShare:
    """This worker's share among its rivals."""

    def __init__(self, weight: int, clock: Callable[[], float]) -> None:
        """`clock` is monotonic seconds."""
        self._weight = weight
        self._clock = clock
        #: Jobs taken here and not given up before they started; its user counts them.
        self.num_started = 0
        #: By worker.
        self.rivals: dict[str, Rival] = {}

    def report(self, worker: str, weight: int, starts: int) -> None:
        """`worker` has started `starts` jobs since it began. A worker of our own weight is no rival."""
        now, rival = self._clock(), self.rivals.get(worker)
        if weight == self._weight:
            self.rivals.pop(worker, None)
        elif rival is None or rival.weight != weight or starts < rival.starts:
            self.rivals[worker] = Rival(weight, starts, self.num_started, now)
        else:
            rival.report(starts, self.num_started, now)

    def forget(self, worker: str) -> None:
        """The worker is gone, or takes no jobs."""
        self.rivals.pop(worker, None)

    @property
    def room(self) -> int | None:
        """How many jobs may be taken now; None: no limit."""
        rooms = [math.floor(allowed) for _, allowed in self._allowed()]
        return max(0, min(rooms)) if rooms else None

    @property
    def wait_s(self) -> float:
        """Without room: about how long until there may be some."""
        waits = [
            (1 - allowed) * rival.weight / self._weight / rival.rate if rival.rate else _MAX_WAIT_S
            for rival, allowed in self._allowed()
            if allowed < 1
        ]
        return min(_MAX_WAIT_S, max(_MIN_WAIT_S, *waits)) if waits else 0.0

    def _allowed(self) -> list[tuple[Rival, float]]:
        """For each rival that is not idle, how many more starts of ours keep us within `_AHEAD`."""
        now = self._clock()
        return [
            (
                rival,
                (rival.starts_at(now) + _AHEAD) * self._weight / rival.weight - (self.num_started - rival.base_ours),
            )
            for rival in self.rivals.values()
            if now - rival.moved_at <= IDLE_S
        ]
