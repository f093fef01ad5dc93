"""Room in REPLIES for the audio of running jobs: blocks stop before the store is full. Protocol rule 15.

The last part of the store, above `BLOCKS_STOP_ABOVE`, is for leases, ends and cancels, so that a job can always be
ended. The part before it, above `BULK_STOPS_ABOVE`, is for streams whose listeners need audio soon: those far ahead
wait earlier. While jobs run here, `StorageGate` measures REPLIES about once a second. Between two measurements a worker
appends at most its share of what is left below each level. Above it, blocks wait: the engine stops for want of credit,
the job keeps its lease, and the lease says `waiting_for`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from bus.errors import BusError, Full
from bus.jobs.claim import JobLease
from bus.jobs.client import Bus
from bus.jobs.retention import BLOCKS_RESUME_BELOW, BLOCKS_STOP_ABOVE, BULK_RESUMES_BELOW, BULK_STOPS_ABOVE
from bus.telemetry.logging import logger
from gpuworker.worker.bulk import Bulk
from gpuworker.worker.entry_size import MAX_ENTRY_BYTES, EntrySize
from gpuworker.worker.stream import Stream

log = logger(__name__)

#: Bytes of an entry beside its audio: subject, headers, the server's own.
ENTRY_OVERHEAD_BYTES: Final = 512
LARGEST_ENTRY_BYTES: Final = MAX_ENTRY_BYTES + ENTRY_OVERHEAD_BYTES
_UNLIMITED_BYTES: Final = 1 << 60
#: `Lease.waiting_for` of a job that waits here.
STORAGE: Final = "storage"
#: The part of the store that all idle workers together may append before they have measured again.
_IDLE_PART: Final = 200
_MEASURE_EVERY_S: Final = 1.0
#: Least time between two measurements, when a share is used up sooner.
_MEASURE_PAUSE_S: Final = 0.02
#: A wait that is shorter does not show in the lease.
_SHOW_AFTER_S: Final = 1.0
#: A job that waits appends nothing, so nothing fences it: it reads its lease instead.
_CHECK_LEASE_S: Final = 10.0
#: Tenants whose last need is noted.
_MAX_NOTED: Final = 1000
_AT_ONCE: Final = contextlib.nullcontext()


def share_bytes(stored_bytes: int, limit_bytes: int, num_workers: int, stop_above: float) -> int:
    """Bytes that each of `num_workers` may append before it measures again; 0: none.

    Half of what is left below `stop_above` of the limit goes to all together: whatever they append, the next
    measurement comes before the level. It is one entry at least, so the level may be passed by an entry of each job.
    `limit_bytes` of 0 or less: no limit.
    """
    if limit_bytes <= 0:
        return _UNLIMITED_BYTES
    left_bytes = int(stop_above * limit_bytes) - stored_bytes
    return max(LARGEST_ENTRY_BYTES, left_bytes // (2 * num_workers)) if left_bytes > 0 else 0


class Room:
    """The bytes that may be appended below one level between two measurements."""

    __slots__ = ("_resume_below", "_stop_above", "allowance", "is_closed")

    def __init__(self, stop_above: float, resume_below: float) -> None:
        """Shares of the store's limit: above the first one entries wait, until it holds less than the second one.

        There are two because with one a few bytes would let one entry in, and each job would stop and go.
        """
        self._stop_above = stop_above
        self._resume_below = resume_below
        #: Bytes that may still be appended before the next measurement; 0 while the room is closed.
        self.allowance = LARGEST_ENTRY_BYTES
        #: Whether entries must wait although the share is not used up: the store is too full, or refused one.
        self.is_closed = False

    def close(self) -> None:
        """The server refused an entry for want of room."""
        self.is_closed = True
        self.allowance = 0

    def measured(self, stored_bytes: int, limit_bytes: int, num_workers: int) -> None:
        """The store holds `stored_bytes` of `limit_bytes`, and so many workers share what is left."""
        share = share_bytes(stored_bytes, limit_bytes, num_workers, self._stop_above)
        is_between = limit_bytes > 0 and stored_bytes / limit_bytes >= self._resume_below
        self.is_closed = share == 0 or (self.is_closed and is_between)
        self.allowance = 0 if self.is_closed else share


def in_turns(waiting: Mapping[Stream, str], last_turns: Mapping[str, int]) -> list[Stream]:
    """The streams that wait, in the order in which they append: tenants alternate, each one's own keep their order.

    `waiting`: tenants by stream, in the order in which the waits began. `last_turns`: number of the turn that a
    tenant had last; the one whose turn is longest ago, or that had none, comes first.
    """
    num_before: dict[str, int] = {}
    keys: dict[Stream, tuple[int, int]] = {}
    for each, tenant in waiting.items():
        rank = num_before.get(tenant, 0)
        num_before[tenant] = rank + 1
        keys[each] = (rank, last_turns.get(tenant, -1))
    return sorted(waiting, key=keys.__getitem__)


class StorageGate:
    """This worker's share of the room in REPLIES.

    A run charges each entry before it appends it, and waits (`StorageWait`) while the share is used up.
    """

    def __init__(self, bus: Bus, is_busy: Callable[[], bool], num_workers: Callable[[], int]) -> None:
        """`is_busy`: whether jobs run here. `num_workers`: live workers of the fleet, this one included."""
        self._bus = bus
        #: Turns at appends of streams that are far ahead.
        self.bulk = Bulk()
        self._is_busy = is_busy
        self._num_workers = num_workers
        #: Room for all entries, and for those of streams that are far ahead.
        self.room = Room(BLOCKS_STOP_ABOVE, BLOCKS_RESUME_BELOW)
        self.bulk_room = Room(BULK_STOPS_ABOVE, BULK_RESUMES_BELOW)
        #: Share of the limit that was stored at the last measurement.
        self.level = 0.0
        self.num_measured = 0
        self._idle_bytes = LARGEST_ENTRY_BYTES
        self._wanted = asyncio.Event()
        #: The tenants of the streams to wake after a measurement, in the order in which their waits began.
        self._waiting: dict[Stream, str] = {}
        #: Number of each tenant's last wait that ended with room; empty while nothing waits.
        self._last_turns: dict[str, int] = {}
        self._num_turns = 0

    async def run(self) -> None:
        """Measure while jobs run, until cancelled. A worker without jobs sends nothing after the first measurement."""
        await self._measure()
        while True:
            await self._pause()
            if self._is_busy():
                await self._measure()
            else:
                for room in (self.room, self.bulk_room):
                    room.allowance = min(room.allowance, self._idle_bytes)

    @property
    def is_closed(self) -> bool:
        """Whether some entries wait for a store that is less full."""
        return self.bulk_room.is_closed or self.room.is_closed

    def is_open(self, *, is_bulk: bool) -> bool:
        """Whether an entry may be appended now. `is_bulk`: of a stream that is far ahead."""
        return self.room.allowance > 0 and (self.bulk_room.allowance > 0 or not is_bulk)

    def charge(self, num_bytes: int) -> None:
        """An entry of `num_bytes` is about to be appended."""
        self.room.allowance -= num_bytes
        self.bulk_room.allowance -= num_bytes

    def turn(self, tenant: str, stream: Stream, entry_size: EntrySize) -> contextlib.AbstractAsyncContextManager[None]:
        """Wait for a turn at appending an entry, if the stream is far ahead; see `Bulk.turn`."""
        now = time.monotonic()
        if entry_size.is_far_ahead(now):
            return self.bulk.turn(tenant, stream, entry_size)
        self.bulk.needed_at[tenant] = now
        return _AT_ONCE

    def refused(self) -> None:
        """The server refused an entry for want of room."""
        self.room.close()
        self.bulk_room.close()

    def measured(self, stored_bytes: int, limit_bytes: int) -> None:
        """REPLIES holds `stored_bytes` of `limit_bytes`: set this worker's share, and wake the jobs that wait."""
        num_workers = max(1, self._num_workers())
        self.num_measured += 1
        self.level = stored_bytes / limit_bytes if limit_bytes > 0 else 0.0
        self._idle_bytes = max(LARGEST_ENTRY_BYTES, limit_bytes // _IDLE_PART // num_workers)
        if len(self.bulk.needed_at) > _MAX_NOTED:
            self.bulk.needed_at.clear()  # without appends of bulk nothing else forgets them
        for room in (self.room, self.bulk_room):
            room.measured(stored_bytes, limit_bytes, num_workers)
        for stream in in_turns(self._waiting, self._last_turns):
            stream.wake()  # it looks later: the order of this loop is the order in which they append

    async def wait(self, tenant: str, stream: Stream, is_due: Callable[[], bool], at_most_s: float) -> bool:
        """Wait until `is_due` after a measurement, at most `at_most_s`; whether it is. Raises Interruption."""
        self._waiting[stream] = tenant
        if not self.room.is_closed:
            self._wanted.set()
        try:
            found = await stream.wait_until(is_due, at_most_s)
        finally:
            del self._waiting[stream]
            if not self._waiting:
                self._last_turns.clear()
        if found and self._waiting:
            self._num_turns += 1
            self._last_turns[tenant] = self._num_turns
        return found

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MEASURE_EVERY_S):
                await asyncio.sleep(_MEASURE_PAUSE_S)
                await self._wanted.wait()
        self._wanted.clear()

    async def _measure(self) -> None:
        try:
            info = await self._bus.js.info(self._bus.subjects.replies_stream)
        except BusError as error:
            log.warning("storage.unknown", error=str(error))  # jobs that wait go on waiting; the next one tries again
            return
        self.measured(int(info["state"]["bytes"]), int(info["config"].get("max_bytes", -1)))


class StorageWait:
    """The waits of one job for room."""

    def __init__(self, gate: StorageGate, tenant: str, stream: Stream, entry_size: EntrySize, lease: JobLease) -> None:
        self._gate = gate
        self._tenant = tenant
        self._stream = stream
        self._lease = lease
        self._entry_size = entry_size
        #: Monotonic seconds at which the wait that the lease shows began.
        self._shown_since: float | None = None

    async def append(self, append: Callable[[], Awaitable[str | None]], *, is_end: bool) -> str | None:
        """Run `append` as soon as there is room, again after each Full; returns what it returns.

        `is_end`: it appends the terminal entry, which waits only if it is refused, and may take the last room. Raises
        Interruption, and what `append` raises but Full.
        """
        gate = self._gate
        if not is_end:
            await self._until(self._is_open)
        while True:
            num_measured = gate.num_measured
            try:
                outcome = await append()
            except Full:
                gate.refused()
                await self._until(partial(self._may_retry, num_measured, is_end))
                continue
            if outcome is None:
                await self._resumed()
            return outcome

    def _may_retry(self, num_measured: int, is_end: bool) -> bool:
        # Any room will do for an end: it is tried after each measurement.
        return self._is_open() or (is_end and self._gate.num_measured > num_measured)

    def _is_open(self) -> bool:
        return self._gate.is_open(is_bulk=self._entry_size.spare_s(time.monotonic()) > 0)

    async def _until(self, is_due: Callable[[], bool]) -> None:
        since = time.monotonic()
        self._stream.waits_for_room = True
        try:
            is_over = await self._gate.wait(self._tenant, self._stream, is_due, _SHOW_AFTER_S)
            while not is_over:
                await self._show(since)
                is_over = await self._gate.wait(self._tenant, self._stream, is_due, _CHECK_LEASE_S)
        finally:
            self._stream.waits_for_room = False
            self._stream.restart_silence()

    async def _show(self, since: float) -> None:
        if self._shown_since is not None:
            await self._lease.ensure_held()
            return
        log.info("job.waiting", waiting_for=STORAGE, level=round(self._gate.level, 3))
        await self._lease.show_waiting(STORAGE)
        self._shown_since = since

    async def _resumed(self) -> None:
        """An entry was stored: the lease shows no wait any more."""
        if self._shown_since is not None:
            log.info("job.resumed", waited_s=round(time.monotonic() - self._shown_since, 3))
            self._shown_since = None
            await self._lease.show_waiting("")
