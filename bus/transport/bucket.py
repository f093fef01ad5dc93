"""A KV bucket in the memory of one process, kept in step with it.

A change publishes a notification on core NATS, which triggers a read of the new entries. Notifications may be lost, so
the bucket is also polled. While the bus is unreachable the entries read before stay in force.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, Generic, TypeVar

import msgspec

from bus.errors import ApiError, BusError
from bus.transport.connection import Connection
from bus.transport.direct import Stored
from bus.transport.jetstream import JetStream, is_missing_stream

T = TypeVar("T")

#: Seconds between two polls: a change takes no longer, even if the notification was lost.
POLL_S: Final = 1.0


class BucketNames(msgspec.Struct, frozen=True):
    """The names of one bucket."""

    #: Its stream.
    stream: str
    #: `$KV.<bucket>.`: the beginning of an entry's subject, before its key.
    prefix: str
    #: Filter for all its entries.
    everything: str
    #: Filter for the notifications of changes.
    changes: str


class _Loaded(Generic[T]):
    """The entries of a bucket, up to one sequence."""

    def __init__(self) -> None:
        self.entries: dict[str, T] = {}
        self.seq = 0
        #: Messages that the bucket had then.
        self.num_messages = 0
        #: When the bucket was created, as the server writes it; "": there was none.
        self.created = ""


async def entries(js: JetStream, stream: str, subject: str) -> AsyncGenerator[Stored, None]:
    """As `messages`, of a bucket that may be missing: then there are none. Raises Unreachable, ApiError."""
    try:
        await js.info(stream)
    except ApiError as error:
        if not is_missing_stream(error):
            raise
        return
    async for stored in messages(js, stream, subject):
        yield stored


async def messages(js: JetStream, stream: str, subject: str, after_seq: int = 0) -> AsyncGenerator[Stored, None]:
    """Every message of `subject` after a sequence, oldest first, those included that a later one replaces.

    `subject` may hold wildcards. Raises Unreachable.
    """
    num_pending = 1
    while num_pending:
        page, num_pending = await js.direct.page(stream, subject, after_seq + 1)
        for stored in page:
            yield stored
        if not page:
            return
        after_seq = page[-1].seq


class BucketCopy(Generic[T]):
    """The entries of one bucket, by key. `run` keeps them current."""

    def __init__(
        self,
        connection: Connection,
        js: JetStream,
        names: BucketNames,
        read: Callable[[Stored], T | None],
        poll_s: float = POLL_S,
    ) -> None:
        """`read`: the entry in a message of the bucket; None for one that is removed, or is none."""
        self._connection = connection
        self._js = js
        self._names = names
        self._read = read
        self._poll_s = poll_s
        self._loaded = _Loaded[T]()
        self._changed = asyncio.Event()
        self._is_failing = False
        #: Whether the bucket has been read once: until then a key that is missing here may exist.
        self.is_loaded = False
        #: Replaced at each change, never changed.
        self.entries: dict[str, T] = self._loaded.entries
        #: Called after each read that found something new, with the sequence read up to.
        self.on_loaded: Callable[[int], None] = lambda seq: None
        #: Called at the first of several reads that fail.
        self.on_failed: Callable[[BusError], None] = lambda error: None

    async def run(self) -> None:
        """Keep the entries current until cancelled."""
        changes = self._connection.subscribe(self._names.changes, lambda _: self._changed.set())
        try:
            while True:
                self._changed.clear()
                await self._try_refresh()
                try:
                    async with asyncio.timeout(self._poll_s):
                        await self._changed.wait()
                except TimeoutError:
                    continue  # no notification: poll
        finally:
            changes.close()

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
        except BusError as error:
            if not self._is_failing:
                self.on_failed(error)
            self._is_failing = True
        else:
            self._is_failing = False

    async def refresh(self) -> None:
        """Read the entries that are new in the bucket. Raises Unreachable, ApiError; then nothing has changed."""
        try:
            info = await self._js.info(self._names.stream)
        except ApiError as error:
            if not is_missing_stream(error):
                raise
            self._take(_Loaded[T]())
            return
        state = info["state"]
        loaded, old = _Loaded[T](), self._loaded
        loaded.created = str(info["created"])
        loaded.num_messages = int(state["messages"])
        last_seq = int(state["last_seq"])
        # Nothing of ours removes messages: fewer of them, or another bucket of the same name, come from an operator.
        if loaded.created == old.created and last_seq >= old.seq and loaded.num_messages >= old.num_messages:
            loaded.entries = dict(old.entries)
            loaded.seq = old.seq
        is_new = last_seq > loaded.seq
        if is_new:
            await self._read_new(loaded)
        self._take(loaded)
        if is_new:
            self.on_loaded(loaded.seq)

    def _take(self, loaded: _Loaded[T]) -> None:
        self._loaded = loaded
        self.entries = loaded.entries
        self.is_loaded = True

    async def _read_new(self, loaded: _Loaded[T]) -> None:
        """Read the entries of the bucket after `loaded.seq` into `loaded`."""
        async with aclosing(messages(self._js, self._names.stream, self._names.everything, loaded.seq)) as found:
            async for stored in found:
                loaded.seq = stored.seq
                key = stored.message.subject.removeprefix(self._names.prefix)
                entry = self._read(stored)
                if entry is None:
                    loaded.entries.pop(key, None)
                else:
                    loaded.entries[key] = entry
