"""Room in REPLIES for the audio of running jobs: blocks stop before the store is full. Protocol rule 15.

The last part of the store, above `BLOCKS_STOP_ABOVE`, is for leases, ends and cancels, so that a job can always be
ended. While jobs run here, `StorageGate` measures REPLIES about once a second. Between two measurements a worker
appends at most its share of what is left below that level. Above it, blocks wait: the engine stops for want of credit,
the job keeps its lease, and the lease says `waiting_for`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from bus.errors import BusError, Full
from bus.jobs.claim import JobLease
from bus.jobs.client import Bus
from bus.jobs.retention import BLOCKS_RESUME_BELOW, BLOCKS_STOP_ABOVE
from bus.telemetry.logging import logger
from bus.turns import Turns
from gpuworker.worker.entry_size import MAX_ENTRY_BYTES
from gpuworker.worker.stream import Stream

log = logger(__name__)

#: Bytes of an entry beside its audio: subject, headers, the server's own.
ENTRY_OVERHEAD_BYTES: Final = 512
#: `Lease.waiting_for` of a job that waits here.
STORAGE: Final = "storage"
_LARGEST_ENTRY_BYTES: Final = MAX_ENTRY_BYTES + ENTRY_OVERHEAD_BYTES
#: The part of the store that all idle workers together may append before they have measured again.
_IDLE_PART: Final = 200
_BULK_APPENDS: Final = 2
_UNLIMITED_BYTES: Final = 1 << 60
_MEASURE_EVERY_S: Final = 1.0
#: Least time between two measurements, when a share is used up sooner.
_MEASURE_PAUSE_S: Final = 0.02
#: A wait that is shorter does not show in the lease.
_SHOW_AFTER_S: Final = 1.0
#: A job that waits appends nothing, so nothing fences it: it reads its lease instead.
_CHECK_LEASE_S: Final = 10.0


def share_bytes(stored_bytes: int, limit_bytes: int, num_workers: int) -> int:
    """Bytes that each of `num_workers` may append before it measures again; 0: blocks must stop. Pure.

    Half of what is left goes to all together: whatever they append, the next measurement comes before the level. It is
    one entry at least, so the level may be passed by an entry of each job. `limit_bytes` of 0 or less: no limit.
    """
    if limit_bytes <= 0:
        return _UNLIMITED_BYTES
    left_bytes = int(BLOCKS_STOP_ABOVE * limit_bytes) - stored_bytes
    return max(_LARGEST_ENTRY_BYTES, left_bytes // (2 * num_workers)) if left_bytes > 0 else 0


class StorageGate:
    """This worker's share of the room in REPLIES.

    A run subtracts each entry from `allowance` before it appends it, and waits (`StorageWait`) while that is used up.
    """

    def __init__(self, bus: Bus, is_busy: Callable[[], bool], num_workers: Callable[[], int]) -> None:
        """`is_busy`: whether jobs run here. `num_workers`: live workers of the fleet, this one included."""
        self._bus = bus
        #: For entries of streams that are far ahead: whatever a tenant makes in advance, few of them are in flight, so
        #: that the first block of another one waits in the server behind few bytes.
        self.bulk = Turns(_BULK_APPENDS)
        self._is_busy = is_busy
        self._num_workers = num_workers
        #: Bytes that may still be appended before the next measurement; 0 while the gate is closed.
        self.allowance = _LARGEST_ENTRY_BYTES
        #: Whether blocks must wait although the share is not used up: the store is too full, or refused an entry.
        self.is_closed = False
        #: Share of the limit that was stored at the last measurement.
        self.level = 0.0
        self.num_measured = 0
        self._idle_bytes = _LARGEST_ENTRY_BYTES
        self._wanted = asyncio.Event()
        #: Streams to wake after a measurement, in the order in which their waits began.
        self._waiting: dict[Stream, None] = {}

    async def run(self) -> None:
        """Measure while jobs run, until cancelled. A worker without jobs sends nothing after the first measurement."""
        await self._measure()
        while True:
            await self._pause()
            if self._is_busy():
                await self._measure()
            else:
                self.allowance = min(self.allowance, self._idle_bytes)

    @property
    def is_open(self) -> bool:
        """Whether an entry may be appended now."""
        return self.allowance > 0

    def may_retry(self, num_measured: int, *, is_end: bool) -> bool:
        """Whether an entry may be tried again that was refused after so many measurements.

        `is_end`: it is a terminal one, which is tried after each measurement: any room will do.
        """
        return self.is_open or (is_end and self.num_measured > num_measured)

    def refused(self) -> None:
        """The server refused an entry for want of room."""
        self.is_closed = True
        self.allowance = 0

    def measured(self, stored_bytes: int, limit_bytes: int) -> None:
        """REPLIES holds `stored_bytes` of `limit_bytes`: set this worker's share, and wake the jobs that wait."""
        num_workers = max(1, self._num_workers())
        self.num_measured += 1
        self.level = stored_bytes / limit_bytes if limit_bytes > 0 else 0.0
        self._idle_bytes = max(_LARGEST_ENTRY_BYTES, limit_bytes // _IDLE_PART // num_workers)
        # Two levels: with one, a few bytes would let one entry in, and each job would stop and go with every entry.
        share = share_bytes(stored_bytes, limit_bytes, num_workers)
        self.is_closed = share == 0 or (self.is_closed and self.level >= BLOCKS_RESUME_BELOW)
        self.allowance = 0 if self.is_closed else share
        for stream in self._waiting:
            stream.wake()  # it looks later: the order of this loop is the order in which they append

    async def wait(self, stream: Stream, is_due: Callable[[], bool], at_most_s: float) -> bool:
        """Wait until `is_due` after a measurement, at most `at_most_s`; whether it is. Raises Interruption."""
        self._waiting[stream] = None
        if not self.is_closed:
            self._wanted.set()
        try:
            return await stream.wait_until(is_due, at_most_s)
        finally:
            del self._waiting[stream]

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

    def __init__(self, gate: StorageGate, stream: Stream, lease: JobLease) -> None:
        self._gate = gate
        self._stream = stream
        self._lease = lease
        #: Monotonic seconds at which the wait that the lease shows began.
        self._shown_since: float | None = None

    async def append(self, append: Callable[[], Awaitable[str | None]], *, is_end: bool) -> str | None:
        """Run `append` as soon as there is room, again after each Full; returns what it returns.

        `is_end`: it appends the terminal entry, which waits only if it is refused, and may take the last room. Raises
        Interruption, and what `append` raises but Full.
        """
        gate = self._gate
        if not is_end:
            await self._until(lambda: gate.is_open)
        while True:
            try:
                outcome = await append()
            except Full:
                gate.refused()
                await self._until(partial(gate.may_retry, gate.num_measured, is_end=is_end))
                continue
            if outcome is None:
                await self._resumed()
            return outcome

    async def _until(self, is_due: Callable[[], bool]) -> None:
        since = time.monotonic()
        self._stream.waits_for_room = True
        try:
            is_over = await self._gate.wait(self._stream, is_due, _SHOW_AFTER_S)
            while not is_over:
                await self._show(since)
                is_over = await self._gate.wait(self._stream, is_due, _CHECK_LEASE_S)
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
