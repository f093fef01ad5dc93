"""Replays a log's stored entries, then follows live ones: no gap, no duplicate, bounded memory. Protocol rule 18.

Live entries come by the republish subject (stored entries only); an entry that is missing is read back by direct get. A
listener slower than the audio costs the worker nothing, and this process `max_buffer_bytes` and a batch: above that all
buffered entries are dropped, and read back when the listener is ready for them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import TracebackType
from typing import Final, Self

from bus.errors import Gone, NotFound, Unreachable
from bus.jobs.damage import missing
from bus.jobs.entry import Entry
from bus.jobs.log import Logs
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.connection import Connection
from bus.transport.parser import Message

log = logger(__name__)

#: Silence after which the log's last entry is read: without that, a lost last message would hang its listener.
_SILENCE_S: Final = 2.0
#: The same before the first entry, in a cluster: the job may be quicker than our subscription on its way to the server
#: that publishes the entries. Doubles up to the other.
_FIRST_SILENCE_S: Final = 0.2
#: A batch ends with the entry that brings it to this size: a listener that stands still holds no more.
_BATCH_BYTES: Final = 64 << 10
#: Memory of an entry beside its payload.
_ENTRY_BYTES: Final = 512
#: A replica may be behind its leader by so long.
_REPLICA_S: Final = 0.02


class _LiveEntries:
    """Live entries that the listener has not taken yet, oldest first."""

    __slots__ = ("_entries", "_max_bytes", "is_behind", "num_bytes")

    def __init__(self, max_bytes: int, *, is_behind: bool) -> None:
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self.num_bytes = 0
        #: Whether the log may hold entries that are not here. While it is set none are added: they are read back.
        self.is_behind = is_behind

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, message: Message) -> None:
        """Buffer an entry, or drop all of them and be behind if there is no room for it."""
        size = len(message.data) + _ENTRY_BYTES
        if not self.is_behind and self.num_bytes + size > self._max_bytes:
            self.is_behind = True
            self.clear()
        if not self.is_behind:
            self._entries.append(Entry.live(message))
            self.num_bytes += size

    def clear(self) -> None:
        """Drop every entry."""
        self._entries.clear()
        self.num_bytes = 0

    def take(self, last_seq: int) -> list[Entry]:
        """The entries that follow sequence `last_seq` without a gap, at most a batch and not beyond the log's end."""
        batch: list[Entry] = []
        num_bytes = 0
        while self._entries and num_bytes < _BATCH_BYTES:
            entry = self._entries[0]
            if entry.seq > last_seq:
                if entry.last_seq > last_seq:
                    self.is_behind = True  # entries between were lost on the way
                    break
                batch.append(entry)
                last_seq = entry.seq
                num_bytes += len(entry.payload)
            self._entries.popleft()
            self.num_bytes -= len(entry.payload) + _ENTRY_BYTES
            if batch and entry.is_end:
                break
        return batch


class Attachment:
    """One listener's view of a log. `async with` it, then iterate: each step gives the entries that are there.

    Entries come oldest first, and the iteration ends after the terminal one; from the first one again if the store has
    lost the newest. A batch belongs to the listener, which may clear it to free its memory.
    """

    def __init__(
        self,
        connection: Connection,
        logs: Logs,
        key: JobKey,
        *,
        after_seq: int = 0,
        is_new: bool = False,
        max_buffer_bytes: int = 512 << 10,
        silence_s: float = _SILENCE_S,
        check_waiting: Callable[[], None] | None = None,
    ) -> None:
        """`after_seq`: stream sequence of the last entry the listener has. `is_new`: the log is known to be empty.

        `silence_s`: after so long without an entry the log's last one is read; `check_waiting` is then called before
        the first entry, and if it raises, the iteration does.
        """
        self._connection = connection
        self._logs = logs
        self._key = key
        self._last_seq = after_seq
        self._read_seq = 0  # of the last entry that was read here: the log had it
        self._live = _LiveEntries(max_buffer_bytes, is_behind=not is_new)
        self._wake = asyncio.Event()
        self._generation = connection.state.generation  # of the connection when the tail was last checked after it
        self._is_ended = False  # whether the listener has the log's end
        self._expect_beginning = after_seq == 0
        self._check_waiting = check_waiting
        self._max_silence_s = silence_s
        self._silence_s = min(silence_s, _FIRST_SILENCE_S) if connection.is_clustered else silence_s
        #: Whether the listener has every stored entry and waits for live ones.
        self.is_idle = False

    async def __aenter__(self) -> Self:
        self._subscription = self._connection.subscribe(self._key.live, self._arrived)
        self._connection.state.on_reconnect.add(self.read_back)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscription.close()
        self._connection.state.on_reconnect.discard(self.read_back)

    @property
    def buffered_bytes(self) -> int:
        """Memory of the live entries that the listener has not taken yet."""
        return self._live.num_bytes

    def read_back(self) -> None:
        """Read the log before the next step: it turned out not to be new, or messages may have been lost."""
        self._live.is_behind = True
        self._wake.set()

    def _arrived(self, message: Message) -> None:
        self._live.add(message)
        self._wake.set()

    async def __aiter__(self) -> AsyncGenerator[list[Entry], None]:
        """Yield batches. Cancelling between or in steps loses nothing: attach again after the last entry's `seq`.

        Raises NotFound; Gone, LogDamaged if retention or the store has lost the log's beginning; as `check_waiting`.
        """
        while not self._is_ended:
            batch = await self._read_batch() if self._live.is_behind else self._live.take(self._last_seq)
            if batch:
                if self._expect_beginning and _follows_another(batch[0]):
                    raise await missing(self._logs, self._key, 0, batch[0].frame)
                self._expect_beginning = False
                self._last_seq = batch[-1].seq
                self._read_seq = batch[-1].seq
                self._is_ended = batch[-1].is_end
                self._silence_s = self._max_silence_s
                yield batch
            elif not self._live.is_behind and not self._is_ended:
                await self._wait()

    async def _wait(self) -> None:
        self._wake.clear()
        if self._live or self._live.is_behind:
            return
        self.is_idle = True
        try:
            async with asyncio.timeout(self._silence_s):
                await self._wake.wait()
        except TimeoutError:
            if self._expect_beginning and self._check_waiting is not None:
                self._check_waiting()
            self._silence_s = min(self._max_silence_s, self._silence_s * 2)
            await self._check_tail_until_woken()
        finally:
            self.is_idle = False

    async def _check_tail_until_woken(self) -> None:
        """Read the log's last entry until a live one arrives: it must not wait for the read, seconds in an election."""
        await _until_set(self._check_tail(), self._wake)

    async def _check_tail(self) -> None:
        try:
            tail = await self._logs.tail(self._key)
            is_born = tail is not None or await self._logs.birth(self._key) is not None
        except Unreachable:
            return  # the next silence reads again; a reconnect reads back anyway
        # In a cluster the other servers have them; a leader that is new may only not know it yet.
        if is_born and not self._connection.is_clustered and self._read_seq > (0 if tail is None else tail.seq):
            # A server without power has lost entries that were read here, and assigns their sequences again.
            log.warning("log.went_back", job=self._key.job, tenant=self._key.tenant, read_seq=self._read_seq)
            self._last_seq = self._read_seq = 0
        if tail is not None:
            self._live.is_behind |= tail.seq > self._last_seq
            # The listener came back with the end, or with a sequence that never existed: nothing can follow.
            self._is_ended = tail.is_end and tail.seq <= self._last_seq
        elif not is_born:
            if self._last_seq:
                raise Gone(f"job {self._key.job!r} was removed by retention while it was read")
            raise NotFound(f"no job {self._key.job!r}")

    async def _read_batch(self) -> list[Entry]:
        # Cleared first: an entry that arrives while we read is buffered, and dropped later if the page has it too.
        self._live.clear()
        self._live.is_behind = False
        self._wake.clear()
        try:
            page, pending = await self._logs.js.direct.page(
                self._logs.subjects.replies_stream, self._key.entries, self._last_seq + 1, max_bytes=_BATCH_BYTES
            )
            if pending:
                self._live.is_behind = True
            elif not page and self._generation != (generation := self._connection.state.generation):
                # Only this shows that the server has lost what was read here, before something takes its place.
                await self._check_tail()
                self._generation = generation
            elif not page:
                await self._check_tail_until_woken()
                if self._live.is_behind:
                    await asyncio.sleep(_REPLICA_S)
            else:
                self._live.is_behind = not Entry.stored(page[-1]).is_end
        except BaseException:
            self._live.is_behind = True
            raise
        return [Entry.stored(stored) for stored in page]


async def _until_set(check: Coroutine[None, None, None], event: asyncio.Event) -> None:
    """Run `check`, but cancel it once `event` is set. Raises as `check` does."""
    checking = asyncio.ensure_future(check)
    setting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((checking, setting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        checking.cancel()
        setting.cancel()
        await asyncio.wait((checking, setting))
    if not checking.cancelled():
        checking.result()


def _follows_another(entry: Entry) -> bool:
    """Whether the entry is a block, and not the first one of its log."""
    return entry.kind == "block" and bool(entry.block or entry.frame)


async def attach_known(connection: Connection, logs: Logs, key: JobKey, after_seq: int = 0) -> Attachment:
    """An attachment to a log that exists. Raises NotFound, or Gone if only its beginning is missing."""
    if await logs.birth(key) is None:
        if await logs.tail(key) is not None:
            raise Gone(f"job {key.job!r}: its beginning was removed by retention")
        raise NotFound(f"no job {key.job!r}")
    return Attachment(connection, logs, key, after_seq=after_seq)
