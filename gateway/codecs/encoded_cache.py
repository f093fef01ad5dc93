"""Finished sound in formats that are encoded from the beginning only: made once, kept, so that one can seek in it."""

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from contextlib import aclosing
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from bus.subjects import JobKey
from gateway.codecs import Format

#: What is being made is in memory too.
_AT_ONCE: Final = 4


class Key(NamedTuple):
    """What was rendered; the sound's checksum and length besides, because an id may be used again once it is gone."""

    name: JobKey
    crc32: str
    frames: int
    from_frame: int
    form: Format


class Rendering:
    def __init__(self, data: bytes) -> None:
        self.data = data
        #: Answers that are going out of it, each at its reader's pace.
        self.num_readers = 0
        #: Of these very bytes: another build of the encoder may make others of the same sound.
        self.etag = f'"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'


class Renderings:
    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._size_bytes = self._lent_bytes = 0
        #: Least recently used first.
        self._kept: OrderedDict[Hashable, Rendering] = OrderedDict()
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._collecting: set[Hashable] = set()

    def kept(self, key: Hashable) -> Rendering | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: Hashable, data: bytes) -> Rendering:
        """`data` is `key`'s from now on, for as long as there is room."""
        old = self._kept.pop(key, None)
        self._size_bytes += len(data) - (len(old.data) if old is not None else 0)
        made = self._kept[key] = Rendering(data)
        self._make_room()
        return made

    def _make_room(self) -> None:
        # What is being read is in memory whether it is kept or not.
        idle = (key for key, each in list(self._kept.items()) if not each.num_readers)
        while self._size_bytes > self.max_bytes and (key := next(idle, None)) is not None:
            self._size_bytes -= len(self._kept.pop(key).data)

    def may_lend(self, num_bytes: float) -> bool:
        """Whether one more of that size may go out: all that are read must fit into the room together."""
        return self._lent_bytes + num_bytes <= self.max_bytes

    @contextlib.contextmanager
    def lent(self, rendering: Rendering) -> Iterator[None]:
        """Within the block an answer goes out of it."""
        if not rendering.num_readers:
            self._lent_bytes += len(rendering.data)
        rendering.num_readers += 1
        try:
            yield
        finally:
            rendering.num_readers -= 1
            if not rendering.num_readers:
                self._lent_bytes -= len(rendering.data)
                self._make_room()

    async def get(self, key: Hashable, make: Callable[[], AsyncGenerator[bytes]]) -> Rendering:
        """`key`'s bytes; who asks for them at the same time waits for one making. Raises what `make` raises.

        If the one that makes it is cancelled or fails, the next one that waits makes it.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            found = self.kept(key)
            if found is not None:
                return found
            async with self._room, aclosing(make()) as pieces:
                return self.keep(key, b"".join([piece async for piece in pieces]))

    @contextlib.contextmanager
    def collecting(self, key: Hashable) -> Iterator[bool]:
        """Whether to collect `key`'s pieces, while they are streamed, to keep them afterwards: one does it for all."""
        if key in self._collecting:
            yield False
            return
        self._collecting.add(key)
        try:
            yield True
        finally:
            self._collecting.discard(key)
