"""Encoded bodies of finished jobs in memory: encoded once, so that identical requests and ranges need no encoder."""

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from contextlib import aclosing
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from bus import wire
from bus.subjects import JobKey
from bus.turns import Turns
from gateway.codecs.cache_writer import CacheWriter, WriteBudget
from gateway.codecs.format import Format

#: Bodies that are encoded at one time: until they are cached, their memory counts nowhere.
_MAX_ENCODINGS: Final = 4
#: Bodies that are being written may take 1 / _WRITE_SHARE of the size of the cache besides.
_WRITE_SHARE: Final = 2


class FileKey(msgspec.Struct, frozen=True):
    """Names the body of a finished job from a frame on.

    With the audio's checksum and length, since an id may be used again once its job is removed.
    """

    job: JobKey
    crc32: str
    frames: int
    from_frame: int
    form: Format
    #: In its head: the marking of a later job of this id may differ.
    tag: str


class StreamKey(msgspec.Struct, frozen=True):
    """Names the body of a job that was streamed while it ran.

    It differs from that of the file: a file's encoder knows the length beforehand and may write it into the head.
    """

    job: JobKey
    crc32: str
    frames: int
    form: Format
    tag: str

    @classmethod
    def of(cls, key: JobKey, done: wire.Done, form: Format, tag: str) -> "StreamKey":
        """The body of a job that ended with `done`."""
        return cls(key, done.crc32, done.frames, form, tag)


class EncodedBody:
    """One body, and the number of responses that send it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        #: Responses that send it, each at its client's pace.
        self.num_readers = 0
        #: Identifies these very bytes: another build of an encoder may encode the same audio differently.
        self.etag = f'"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'


class EncodedCache:
    """Bodies by key, of bounded total size; drops the least recently used, but none that is being sent."""

    def __init__(self, max_bytes: int, max_s: float) -> None:
        """`max_s`: seconds of audio; the body of a longer job is not cached."""
        self.max_bytes = max_bytes
        self.max_s = max_s
        self._size_bytes = 0
        #: Bytes of the bodies that are being sent.
        self._sending_bytes = 0
        #: Least recently used first.
        self._bodies: OrderedDict[Hashable, EncodedBody] = OrderedDict()
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._encodings = Turns(_MAX_ENCODINGS)
        self._claimed: set[Hashable] = set()
        self._write_budget = WriteBudget(max_bytes // _WRITE_SHARE)

    @property
    def sending_bytes(self) -> int:
        """Bytes of the bodies that are being sent, each counted once."""
        return self._sending_bytes

    def get(self, key: Hashable) -> EncodedBody | None:
        """The cached body, which is now the most recently used."""
        found = self._bodies.get(key)
        if found is not None:
            self._bodies.move_to_end(key)
        return found

    def put(self, key: Hashable, data: bytes) -> EncodedBody:
        """Cache `data` under `key`, for as long as there is space."""
        old = self._bodies.pop(key, None)
        self._size_bytes += len(data) - (len(old.data) if old is not None else 0)
        body = self._bodies[key] = EncodedBody(data)
        self._evict()
        return body

    def _evict(self) -> None:
        # A body that is being sent is in memory whether it is cached or not.
        idle = (key for key, body in list(self._bodies.items()) if not body.num_readers)
        while self._size_bytes > self.max_bytes and (key := next(idle, None)) is not None:
            self._size_bytes -= len(self._bodies.pop(key).data)

    def may_send(self, num_bytes: float) -> bool:
        """Whether one more body of that size may be sent: all that are being sent must fit into the cache together."""
        return self._sending_bytes + num_bytes <= self.max_bytes

    @contextlib.contextmanager
    def sending(self, body: EncodedBody) -> Iterator[None]:
        """Keep `body` while a response sends it."""
        if not body.num_readers:
            self._sending_bytes += len(body.data)
        body.num_readers += 1
        try:
            yield
        finally:
            body.num_readers -= 1
            if not body.num_readers:
                self._sending_bytes -= len(body.data)
                self._evict()

    async def get_or_encode(
        self, key: Hashable, encode: Callable[[], AsyncGenerator[bytes]], owner: str
    ) -> EncodedBody:
        """The cached body, or the one that `encode` yields in pieces; concurrent calls for one key share an encoding.

        `owner`: whose share of the encodings it uses. Raises as `encode` does. If the call that encodes is cancelled or
        fails, the next one that waits encodes.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            found = self.get(key)
            if found is not None:
                return found
            async with self._encodings.turn(owner), aclosing(encode()) as pieces:
                return self.put(key, b"".join([piece async for piece in pieces]))

    @contextlib.contextmanager
    def claim(self, key: Hashable) -> Iterator[bool]:
        """Whether the response of this block may write `key`'s body: one of concurrent ones does it for all."""
        if key in self._claimed:
            yield False
            return
        self._claimed.add(key)
        try:
            yield True
        finally:
            self._claimed.discard(key)

    @contextlib.contextmanager
    def writer(self) -> Iterator[CacheWriter]:
        """Collect a body while it is streamed; `save` it once it is complete. The block's end frees its memory."""
        writer = CacheWriter(self._write_budget, self.put)
        try:
            yield writer
        finally:
            writer.drop()
