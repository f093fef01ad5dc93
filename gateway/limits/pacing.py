"""Slows the callers down that keep this process busy, while others have requests too.

Requests cost time of one event loop, and a caller that sends many of them delays every step of every other one. While
the loop answers late because it has much to do, and more than one caller is active, a request of a caller with more
than an equal part of the recent requests waits before it is served: longer and longer until the loop is in time again.
A caller alone is never slowed down, nor one with few requests, nor any while the loop has little to do: it is late then
too if other processes have the CPU, and a wait would not make it earlier.
"""

import asyncio
from typing import Final

from bus.process import occupied_s
from bus.telemetry.logging import logger

log = logger(__name__)

#: Seconds between two looks at the loop; and while there is at most one caller, who waits for no other one.
_PERIOD_S: Final = 0.05
_IDLE_S: Final = 1.0
#: Part of a new measurement in the average.
_SMOOTHING: Final = 0.3
#: A loop that is later than this, on average, is busy.
_BUSY_S: Final = 0.001
#: And if it has worked, or has waited for a CPU, for this part of the time, on average.
_BUSY_PART: Final = 0.4
#: Part of the counted requests that is left after one period: those of two seconds ago hardly count.
_DECAY: Final = 0.93
#: A caller with fewer counted requests is never slowed down: about 30 a second.
_FEW: Final = 20.0
#: One with fewer is not active; one with far fewer is forgotten.
_ACTIVE: Final = 0.5
_FORGOTTEN: Final = 0.05
#: The wait of a caller that has sent all recent requests: the least, the most, its growth while the loop is busy and
#: its decline while it is not, for each period.
_MIN_WAIT_S: Final = 0.01
_MAX_WAIT_S: Final = 1.0
_GROWTH: Final = 1.2
_DECLINE: Final = 0.9


class Pacing:
    """The recent requests of one process by caller, and how late its event loop is."""

    def __init__(self) -> None:
        #: Recent requests by caller: add 1 for each, before `turn`.
        self.counts: dict[str, float] = {}
        #: Whether a request needs `turn`.
        self.is_busy = False
        self._late_s = 0.0
        self._occupied_part = 0.0
        self._whole_wait_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if len(self.counts) < 2:
                await asyncio.sleep(_IDLE_S)
                self.counts = {owner: count / 2 for owner, count in self.counts.items() if count > _FORGOTTEN}
                continue
            began_s, before_s = loop.time(), occupied_s()
            await asyncio.sleep(_PERIOD_S)
            took_s = loop.time() - began_s
            self.look(took_s - _PERIOD_S, (occupied_s() - before_s) / took_s)

    def look(self, late_s: float, occupied_part: float) -> None:
        """One period has passed: the loop was `late_s` seconds late, and its thread was occupied for that part."""
        self._late_s += _SMOOTHING * (late_s - self._late_s)
        self._occupied_part += _SMOOTHING * (occupied_part - self._occupied_part)
        if self.counts:
            self.counts = {owner: _DECAY * count for owner, count in self.counts.items() if count > _FORGOTTEN}
        was_busy, num_active = self.is_busy, sum(count > _ACTIVE for count in self.counts.values())
        if self._late_s > _BUSY_S and self._occupied_part > _BUSY_PART and num_active > 1:
            self._whole_wait_s = min(_MAX_WAIT_S, max(_MIN_WAIT_S, _GROWTH * self._whole_wait_s))
        else:
            self._whole_wait_s = _DECLINE * self._whole_wait_s if self._whole_wait_s > _MIN_WAIT_S else 0.0
        self.is_busy = self._whole_wait_s > 0 and num_active > 1
        if self.is_busy and not was_busy:
            log.debug("pacing.began", late_s=round(self._late_s, 4), occupied_part=round(self._occupied_part, 3))

    def wait_s(self, owner: str) -> float:
        """Seconds that the next request of `owner` waits; 0 if it has few, or no more than an equal part of them."""
        own = self.counts.get(owner, 0.0)
        if own < _FEW:
            return 0.0
        active = [count for count in self.counts.values() if count > _ACTIVE]
        total = sum(active)
        return self._whole_wait_s * own / total if len(active) > 1 and own * len(active) > total else 0.0

    async def turn(self, owner: str) -> None:
        """Wait, if the next request of `owner` must. Cancelling leaves nothing behind."""
        wait_s = self.wait_s(owner)
        if wait_s:
            await asyncio.sleep(wait_s)

    async def begin(self, owner: str) -> None:
        """Count a request, and wait if it must. Cancelling leaves it counted."""
        self.counts[owner] = self.counts.get(owner, 0.0) + 1.0
        if self.is_busy:
            await self.turn(owner)
