"""Appends of bulk: entries of streams that are far ahead of their listeners.

A tenant that makes much audio in advance keeps this worker, nats-server and the disk busy, and the first block of
another tenant waits behind it. So few of these entries are in flight, tenants have them in turn, and while jobs of
another tenant need this worker each is followed by a pause of some times the time that it took. A tenant alone is not
slowed down.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bus.turns import Turns
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.stream import Stream

#: Entries in flight.
_NUM_TURNS: Final = 2
#: Another tenant needs this worker until so long after its last entry that was not bulk: its next request may be near.
_RECENT_S: Final = 2.0
#: A pause, in multiples of the time that the entry took, and at most.
_PAUSE: Final = 16.0
_MAX_PAUSE_S: Final = 0.1


class Bulk:
    """The turns of one worker."""

    def __init__(self) -> None:
        #: When a job of each tenant last began here, or appended an entry that was not bulk; monotonic seconds.
        self.needed_at: dict[str, float] = {}
        self._turns = Turns(_NUM_TURNS)

    @asynccontextmanager
    async def turn(self, tenant: str, stream: Stream, entry_size: EntrySize) -> AsyncIterator[None]:
        """Wait until an entry of `stream` may be appended, and append it in the block.

        The wait ends at the latest when the listener needs audio. Raises Interruption. Cancelling gives the turn up.
        """
        granted = self._turns.request(tenant)
        try:
            if not granted.done():
                granted.add_done_callback(lambda _: stream.wake())
                await stream.wait_until(granted.done, entry_size.spare_s(time.monotonic()))
        except BaseException:
            self._turns.withdraw(tenant, granted)
            raise
        if not granted.done():
            self._turns.withdraw(tenant, granted)
            yield
            return
        began = time.monotonic()
        try:
            yield
        finally:
            self._end(tenant, began, time.monotonic())

    def has_others(self, tenant: str, now: float) -> bool:
        """Whether another tenant than `tenant` has needed this worker lately."""
        self.needed_at = {each: at for each, at in self.needed_at.items() if now - at < _RECENT_S}
        return len(self.needed_at) > (tenant in self.needed_at)

    def _end(self, tenant: str, began: float, now: float) -> None:
        """End the turn, after a pause if others need the worker."""
        if self.has_others(tenant, now):
            pause_s = min(_MAX_PAUSE_S, _PAUSE * (now - began))
            asyncio.get_running_loop().call_later(pause_s, self._turns.end, tenant)
        else:
            self._turns.end(tenant)
