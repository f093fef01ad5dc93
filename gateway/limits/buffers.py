"""Memory in which one gateway holds data for its clients: bodies that are read, answers that are collected and sent.

What a connection holds at most is bounded elsewhere, and small: a slow listener's 512 KiB, the few KB of a request's
head. Whatever may be larger takes its bytes from here as it grows, and gives them back as it is sent.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from bus.errors import JobError
from bus.process import trim_memory
from gateway.limits.pools import Pool

BUFFER_BYTES: Final = "buffer_bytes"
_WAIT_S: Final = 10.0
#: Once this much was held and nine tenths of it are given back, free memory is returned to the system, a second later:
#: what lived longer than the crowd keeps the heap below it.
_CROWD_BYTES: Final = 32 << 20
_GONE: Final = 0.1
_TRIM_AFTER_S: Final = 1.0


class _Waiter(NamedTuple):
    owner: str
    num_bytes: int
    granted: asyncio.Future[None]


class Buffers:
    """The bytes of all clients of one process. Not for several threads."""

    def __init__(self, capacity_bytes: int, wait_s: float = _WAIT_S) -> None:
        """`capacity_bytes`: held at most, by all clients together. `wait_s`: how long `Buffer.grow` waits for room."""
        self._wait_s = wait_s
        #: The most that was held since the heap was trimmed.
        self._peak_bytes = 0.0
        self._pool = Pool(BUFFER_BYTES, "bytes", capacity_bytes)
        self._waiting: list[_Waiter] = []

    @property
    def capacity_bytes(self) -> int:
        """The most that all clients may hold."""
        return int(self._pool.capacity)

    @property
    def total_bytes(self) -> int:
        """Held now."""
        return int(self._pool.total)

    @contextmanager
    def hold(self, owner: str) -> Iterator["Buffer"]:
        """A buffer of `owner` (`Caller.owner`), empty at first. The end of the block gives everything back."""
        buffer = Buffer(self, owner)
        try:
            yield buffer
        finally:
            buffer.shrink(buffer.num_bytes)

    def try_take(self, owner: str, num_bytes: int) -> bool:
        """For `Buffer.try_grow`."""
        return self._pool.try_take(owner, num_bytes) is None

    def take_now(self, owner: str, num_bytes: int) -> JobError | None:
        """Hold `num_bytes` more for `owner` and return None, or change nothing and return the error to refuse with."""
        refusal = self._pool.try_take(owner, num_bytes)
        return None if refusal is None else self._pool.refused(owner, refusal)

    def add(self, owner: str, num_bytes: int) -> None:
        """For `Buffer.add`."""
        self._pool.add(owner, num_bytes)

    async def take(self, owner: str, num_bytes: int) -> None:
        """For `Buffer.grow`."""
        refusal = self._pool.try_take(owner, num_bytes)
        if refusal is None:
            return
        waiter = _Waiter(owner, num_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._wait_s):
                await waiter.granted
        except TimeoutError:
            # A waiter that gave up a moment ago may have left room.
            if not self._leave(waiter) and (refusal := self._pool.try_take(owner, num_bytes)) is not None:
                raise self._pool.refused(owner, refusal) from None
        except asyncio.CancelledError:
            if self._leave(waiter):
                self.give_back(owner, num_bytes)
            raise

    def _leave(self, waiter: _Waiter) -> bool:
        """Stop waiting; whether the bytes were granted meanwhile."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            return False
        return True

    def give_back(self, owner: str, num_bytes: int) -> None:
        """For `Buffer.shrink`."""
        if not num_bytes:
            return
        self._peak_bytes = max(self._peak_bytes, self._pool.total)
        self._pool.give_back(owner, num_bytes)
        if self._peak_bytes > _CROWD_BYTES and self._pool.total < self._peak_bytes * _GONE:
            self._peak_bytes = self._pool.total
            asyncio.get_running_loop().call_later(_TRIM_AFTER_S, trim_memory)
        if self._waiting:
            self._waiting = [each for each in self._waiting if not self._grant(each)]

    def _grant(self, waiter: _Waiter) -> bool:
        if waiter.granted.done() or not self.try_take(waiter.owner, waiter.num_bytes):
            return False
        waiter.granted.set_result(None)
        return True


class Buffer:
    """The bytes that are held for one client."""

    def __init__(self, buffers: Buffers, owner: str) -> None:
        """`Buffers.hold` makes it."""
        self._buffers = buffers
        self._owner = owner
        self.num_bytes = 0

    def try_grow(self, num_bytes: int) -> bool:
        """Hold `num_bytes` more, unless they do not fit at present."""
        if not self._buffers.try_take(self._owner, num_bytes):
            return False
        self.num_bytes += num_bytes
        return True

    def add(self, num_bytes: int) -> bool:
        """Hold `num_bytes` more, which are in memory already, whether they fit or not; returns whether they do."""
        fits = self.try_grow(num_bytes)
        if not fits:
            self._buffers.add(self._owner, num_bytes)
            self.num_bytes += num_bytes
        return fits

    async def grow(self, num_bytes: int) -> None:
        """Hold `num_bytes` more, and wait for room if they do not fit at present.

        After 10 s it raises TooMany if the owner's share is used up, Overloaded if the memory is, and holds nothing any
        more: what cannot be completed makes room at once. Cancelling leaves the buffer as it was.
        """
        try:
            await self._buffers.take(self._owner, num_bytes)
        except JobError:
            self.shrink(self.num_bytes)
            raise
        self.num_bytes += num_bytes

    def shrink(self, num_bytes: int) -> None:
        """Hold `num_bytes` less."""
        self._buffers.give_back(self._owner, num_bytes)
        self.num_bytes -= num_bytes
