"""Attach to a log at an entry: what was said, then what is said, without a gap, a repeat or an unbounded buffer.

Protocol rule 18. Live entries come by the republish subject (stored entries only); whatever is missing is read back by
direct get. A listener slower than the audio costs the worker nothing, and us `max_buffer_bytes` and a batch: once more
waits, all of it is dropped, and read back when the listener is ready for it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from bus.errors import Gone, NotFound, Unreachable
from bus.jobs.entry import Entry
from bus.jobs.log import Logs
from bus.subjects import JobKey
from bus.transport.connection import Connection
from bus.transport.parser import Message

#: Silence after which the log's end is looked at: a lost last message would otherwise hang its listener.
_SILENCE_S = 2.0
#: The same before the first entry, in a cluster: the job may be quicker than the news of our subscription on its way to
#: the server that tells of it. Doubles until the other.
_FIRST_SILENCE_S = 0.2
#: Of one batch, its last entry besides: what a listener that stands still has in its hands.
_BATCH_BYTES = 64 << 10


class Attachment:
    """`async with` it, then iterate: each step gives entries that are there, oldest first; ends after the end.

    A batch is its listener's, who may clear it to let go of what was heard.
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
    ) -> None:
        """`after_seq`: stream sequence of the last entry the listener has. `is_new`: the log is known to be empty."""
        self._connection, self._logs, self._key = connection, logs, key
        self._last_seq, self._max_buffer_bytes = after_seq, max_buffer_bytes
        self._live: deque[Entry] = deque()
        self._live_bytes = 0
        self._wake = asyncio.Event()
        #: The log may hold entries that are not in `_live`.
        self._behind = not is_new
        #: Whether the listener has the log's end.
        self._ended = False
        self._expect_beginning = after_seq == 0
        self._silence_s = _FIRST_SILENCE_S if connection.is_clustered else _SILENCE_S

    async def __aenter__(self) -> Self:
        self._subscription = self._connection.subscribe(self._key.live, self._arrived)
        self._off = self._connection.state.on_reconnect(self._reconnected)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscription.close()
        self._off()

    def read_back(self) -> None:
        """The log turned out not to be new: begin with what it holds."""
        self._behind = True
        self._wake.set()

    def _arrived(self, message: Message) -> None:
        size = len(message.data) + 512
        if not self._behind and self._live_bytes + size > self._max_buffer_bytes:
            self._behind = True
            self._forget_live()
        if not self._behind:  # else the log is read back, with this one
            self._live.append(Entry.live(message))
            self._live_bytes += size
        self._wake.set()

    def _forget_live(self) -> None:
        self._live.clear()
        self._live_bytes = 0

    def _reconnected(self) -> None:
        self._behind = True
        self._wake.set()

    async def __aiter__(self) -> AsyncGenerator[list[Entry], None]:
        """Yield batches. Cancelling between or in steps loses nothing: attach again after the last entry's `seq`.

        Raises:
            NotFound: there is no such job.
            Gone: the log lost its beginning to retention.
        """
        while not self._ended:
            batch = await self._read_back() if self._behind else self._take_live()
            if batch:
                self._check_beginning(batch[0])
                self._last_seq, self._ended = batch[-1].seq, batch[-1].is_end
                self._silence_s = _SILENCE_S
                yield batch
            elif not self._behind and not self._ended:
                await self._wait()

    def _take_live(self) -> list[Entry]:
        batch: list[Entry] = []
        last_seq, num_bytes = self._last_seq, 0
        while self._live and num_bytes < _BATCH_BYTES:
            entry = self._live[0]
            if entry.seq > last_seq:
                if entry.last_seq > last_seq:
                    self._behind = True  # entries between were dropped on the way
                    break
                batch.append(entry)
                last_seq, num_bytes = entry.seq, num_bytes + len(entry.payload)
            self._live.popleft()
            self._live_bytes -= len(entry.payload) + 512
            if batch and entry.is_end:
                break
        return batch

    async def _wait(self) -> None:
        self._wake.clear()
        if self._live or self._behind:
            return
        try:
            async with asyncio.timeout(self._silence_s):
                await self._wake.wait()
        except TimeoutError:
            self._silence_s = min(_SILENCE_S, self._silence_s * 2)
            await self._look_unless_woken()

    async def _look_unless_woken(self) -> None:
        """Look at the end, but not for longer than it stays silent.

        While a leader is elected an answer takes seconds: entries that come meanwhile must not wait for it.
        """
        look, woken = asyncio.ensure_future(self._look_at_the_end()), asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((look, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            look.cancel()
            woken.cancel()
            await asyncio.wait((look, woken))
        if not look.cancelled():
            look.result()

    async def _look_at_the_end(self) -> None:
        try:
            tail = await self._logs.tail(self._key)
            is_born = tail is not None or await self._logs.birth(self._key) is not None
        except Unreachable:
            return  # the next silence asks again; a reconnect reads back anyway
        if tail is not None:
            self._behind = self._behind or tail.seq > self._last_seq
            # The listener came back with the end, or with a sequence that never was: nothing can follow.
            self._ended = tail.is_end and tail.seq <= self._last_seq
        elif not is_born:
            if self._last_seq:
                raise Gone(f"job {self._key.job!r} was removed by retention while it was read")
            raise NotFound(f"no job {self._key.job!r}")

    async def _read_back(self) -> list[Entry]:
        # Cleared first: what arrives while we read lands in `_live` and is dropped there if the page has it too.
        self._forget_live()
        self._behind = False
        self._wake.clear()
        try:
            page, pending = await self._logs.js.direct.page(
                self._logs.subjects.replies_stream, self._key.entries, self._last_seq + 1, max_bytes=_BATCH_BYTES
            )
            if pending:
                self._behind = True
            elif not page:
                await self._look_unless_woken()
                if self._behind:
                    await asyncio.sleep(0.02)  # a replica that has not caught up with its leader
            else:
                self._behind = not Entry.stored(page[-1]).is_end
        except BaseException:
            self._behind = True
            raise
        return [Entry.stored(stored) for stored in page]

    def _check_beginning(self, first: Entry) -> None:
        if self._expect_beginning and first.kind == "block" and (first.block or first.frame):
            raise Gone(f"job {self._key.job!r}: its first {first.frame} frames were removed by retention")
        self._expect_beginning = False


async def attach_known(connection: Connection, logs: Logs, key: JobKey, after_seq: int = 0) -> Attachment:
    """An attachment to a log that exists. Raises NotFound, or Gone if only its beginning is missing."""
    if await logs.birth(key) is None:
        if await logs.tail(key) is not None:
            raise Gone(f"job {key.job!r}: its beginning was removed by retention")
        raise NotFound(f"no job {key.job!r}")
    return Attachment(connection, logs, key, after_seq=after_seq)
