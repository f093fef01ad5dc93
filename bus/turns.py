"""Turns at something of which only so many may happen at once, shared fairly among the owners that wait."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_NEVER: Final = -1


class _Queue:
    """The turns that one owner has, and those that it waits for."""

    __slots__ = ("last_turn", "running", "waiting", "weight")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.weight = 1.0
        #: Number of the turn that it got last.
        self.last_turn = _NEVER


class Turns:
    """A semaphore that serves the owner with the fewest turns for its weight first, and each owner's own in order.

    While turns are free, any owner may have all of them. Nothing is taken away: an owner that comes late gets the next
    turn that ends. Not for several threads.
    """

    def __init__(self, num_turns: int) -> None:
        """`num_turns`: the most that run at once."""
        self._num_free = num_turns
        self._queues: dict[str, _Queue] = {}
        self._num_given = 0

    @asynccontextmanager
    async def turn(self, owner: str, weight: float = 1.0) -> AsyncIterator[None]:
        """Wait for a turn and have it for the length of the block. Cancelling gives it up, whether waiting or not."""
        await self.begin(owner, weight)
        try:
            yield
        finally:
            self.end(owner)

    def num_waiting(self, owner: str) -> int:
        """Turns that `owner` waits for."""
        queue = self._queues.get(owner)
        return len(queue.waiting) if queue is not None else 0

    async def begin(self, owner: str, weight: float = 1.0) -> None:
        """Wait for a turn, for work that outlives the task that waits; `end` must follow. Cancelling gives it up."""
        granted = self.request(owner, weight)
        try:
            await granted
        except asyncio.CancelledError:
            self.withdraw(owner, granted)
            raise

    def request(self, owner: str, weight: float = 1.0) -> asyncio.Future[None]:
        """A future that is done once `owner` has a turn; `end` or `withdraw` must follow. It may be done at once."""
        queue = self._queues.setdefault(owner, _Queue())
        queue.weight = weight
        granted = asyncio.get_running_loop().create_future()
        if self._num_free:  # then no owner waits
            self._start(queue)
            granted.set_result(None)
        else:
            queue.waiting.append(granted)
        return granted

    def withdraw(self, owner: str, granted: asyncio.Future[None]) -> None:
        """Give up what `request` returned, whether it was granted, cancelled or neither."""
        if granted.done() and not granted.cancelled():
            self.end(owner)
            return
        queue = self._queues.get(owner)
        if queue is not None:
            if granted in queue.waiting:
                queue.waiting.remove(granted)
            self._forget(owner, queue)

    def _start(self, queue: _Queue) -> None:
        self._num_free -= 1
        queue.running += 1
        queue.last_turn = self._num_given
        self._num_given += 1

    def end(self, owner: str) -> None:
        """End a turn that `begin` gave."""
        queue = self._queues[owner]
        queue.running -= 1
        self._num_free += 1
        self._give()
        self._forget(owner, queue)

    def _give(self) -> None:
        """Give the free turn to a waiter, if there is one that was not cancelled a moment ago."""
        while waiting := [each for each in self._queues.values() if each.waiting]:
            chosen = min(waiting, key=lambda each: (each.running / each.weight, each.last_turn))
            waiter = chosen.waiting.popleft()
            if not waiter.done():
                self._start(chosen)
                waiter.set_result(None)
                return

    def _forget(self, owner: str, queue: _Queue) -> None:
        if not queue.running and not queue.waiting:
            self._queues.pop(owner, None)
