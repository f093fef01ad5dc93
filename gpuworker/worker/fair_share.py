"""How many jobs a worker may take so that starts are shared by weight, as nginx shares requests among its peers.

Every worker counts its own starts and hears its rivals' counts. Nobody may be more than a little ahead of a rival,
counted in starts per weight; who is ahead leaves the next jobs to who is behind. A rival that starts nothing for
`IDLE_S` (it is stuck in long jobs, or there is nothing to do) is waited for no longer, and what was owed is forgotten.

Pure: no I/O, and no clock but the one it is given.
"""

import math
from collections.abc import Callable
from typing import Final

#: A rival that has started nothing for so long holds nobody back.
IDLE_S: Final = 2.0
#: How far one may be ahead of a rival, in starts of that rival.
_AHEAD: Final = 2.0
#: Counts are heard late: they are carried forward at their last rate for so long.
_CARRY_S: Final = 0.3
_MIN_WAIT_S: Final = 0.005
_MAX_WAIT_S: Final = 0.1


class _Rival:
    """A worker of another weight that serves the same models."""

    __slots__ = ("base_mine", "base_theirs", "heard_at", "mine_then", "moved_at", "rate", "starts", "weight")

    def __init__(self, weight: int, starts: int, mine: int, now: float) -> None:
        self.weight, self.starts = weight, starts
        #: Where both counts began.
        self.base_theirs, self.base_mine = starts, mine
        #: Our count when it was heard last.
        self.mine_then = mine
        self.heard_at, self.moved_at = now, -math.inf
        #: Its starts per second.
        self.rate = 0.0

    def hear(self, starts: int, mine: int, now: float) -> None:
        new, lapsed_s = starts - self.starts, max(1e-3, now - self.heard_at)
        if new and now - self.moved_at > IDLE_S:
            self.base_theirs, self.base_mine = self.starts, self.mine_then
            self.rate = 0.0
        elif new:
            self.rate += (new / lapsed_s - self.rate) / 2
        if new:
            self.moved_at = now
        self.starts, self.heard_at, self.mine_then = starts, now, mine

    def now_at(self, now: float) -> float:
        """Its starts since the beginning, as far as can be told."""
        return self.starts - self.base_theirs + self.rate * min(now - self.heard_at, _CARRY_S)


class FairShare:
    def __init__(self, weight: int, clock: Callable[[], float]) -> None:
        """`clock` is monotonic seconds."""
        self._weight, self._clock = weight, clock
        self._mine = 0
        self._rivals: dict[str, _Rival] = {}

    def began(self) -> None:
        """A job was taken here."""
        self._mine += 1

    def returned(self) -> None:
        """One that was taken did not start after all."""
        self._mine -= 1

    def heard(self, worker: str, weight: int, starts: int) -> None:
        """So many jobs has `worker` ever started; one of our own weight is no rival."""
        now, rival = self._clock(), self._rivals.get(worker)
        if weight == self._weight:
            self._rivals.pop(worker, None)
        elif rival is None or rival.weight != weight or starts < rival.starts:
            self._rivals[worker] = _Rival(weight, starts, self._mine, now)
        else:
            rival.hear(starts, self._mine, now)

    def forget(self, worker: str) -> None:
        """It is gone, or takes no jobs."""
        self._rivals.pop(worker, None)

    @property
    def room(self) -> int | None:
        """How many jobs may be taken now; None: as many as one likes."""
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

    def _allowed(self) -> list[tuple[_Rival, float]]:
        """For each rival that is at work, how many more starts of ours it would have to bear."""
        now = self._clock()
        return [
            (rival, (rival.now_at(now) + _AHEAD) * self._weight / rival.weight - (self._mine - rival.base_mine))
            for rival in self._rivals.values()
            if now - rival.moved_at <= IDLE_S
        ]
