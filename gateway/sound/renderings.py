"""Finished sound in formats that are encoded from the beginning only: made once, kept, so that one can seek in it."""

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from contextlib import aclosing
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from bus.subjects import LogSubjects
from gateway.codecs import Format

#: What is being made is in memory too.
_AT_ONCE: Final = 4


class Key(NamedTuple):
    """What was rendered; the sound's checksum and length besides, because an id may be used again once it is gone."""

    name: LogSubjects
    crc32: str
    frames: int
    from_frame: int
    form: Format


class Rendering:
    def __init__(self, data: bytes) -> None:
        self.data = data
        #: Of these very bytes: another build of the encoder may make others of the same sound.
        self.etag = f'"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'


class Renderings:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
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
        while self._size_bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._size_bytes -= len(dropped.data)
        return made

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
    def collect(self, key: Hashable) -> Iterator[list[bytes] | None]:
        """Where to put `key`'s pieces, while they are streamed, to keep them afterwards; None if others do already."""
        if key in self._collecting or len(self._collecting) >= _AT_ONCE:
            yield None
            return
        self._collecting.add(key)
        try:
            yield []
        finally:
            self._collecting.discard(key)
