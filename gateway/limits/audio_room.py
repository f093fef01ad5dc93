"""Room in REPLIES for audio that accepted jobs will make, shared among tenants.

The bounds of large jobs are reserved until the jobs end, in a table that the gateways exchange. Nothing is stored: a
gateway that is killed takes its reservations with it, unless the others know them. They keep those of jobs that are in
the queue, and find there the ones that were not reported.
"""

import asyncio
import time
from typing import Final

import msgspec

from bus import wire
from bus.errors import BusError, JobError, Malformed
from bus.jobs.client import Bus
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gateway.limits.gossip import Gossip
from gateway.limits.refusals import no_room, too_much_stored
from gateway.limits.reserved_audio import Reservation, ReservedAudio

log = logger(__name__)

STORED: Final = "stored_bytes"
#: Share of REPLIES that live jobs may be sure of: above it new ones are refused in any case.
_CAPACITY: Final = 0.85
#: Share of REPLIES below which a job is not reserved. As many as run at once fit beside the reservations.
_SMALL_SHARE: Final = 1 / 1024
#: Seconds between two rounds, between two checks of one reservation, and between two of all for a refusal.
_PERIOD_S: Final = 5.0
_CHECK_AGAIN_S: Final = 10.0
_PAUSE_S: Final = 0.2
#: Reservations checked at a time, and in one round.
_CONCURRENCY: Final = 32
_MAX_CHECKS: Final = 1024
#: A replica of JOBS that answers may lag this far behind its leader.
_REPLICA_LAG_S: Final = 2.0
#: A job that is not in the queue this long after it was accepted never gets there.
_LOST_S: Final = 10.0
#: Pages of the queue that are read for reservations which no gateway reported.
_MAX_PAGES: Final = 400


class _Sized(msgspec.Struct):
    """The fields of a queued job that matter here."""

    id: str = ""
    max_bytes: int = 0


class AudioRoom:
    """One gateway's view of the room that live jobs need."""

    def __init__(self, bus: Bus, gossip: Gossip) -> None:
        self._bus = bus
        self._gossip = gossip
        max_bytes = bus.settings.replies_max_bytes
        self.table = ReservedAudio(gossip.id, int(_CAPACITY * max_bytes))
        #: A job whose bound is larger is reserved.
        self.small_bytes = int(_SMALL_SHARE * max_bytes)
        self._lag_s = _REPLICA_LAG_S if bus.settings.replicas > 1 else 0.0
        #: When the last check of all began.
        self._checked_s = float("-inf")
        self._checking = asyncio.Lock()
        self._scanning = asyncio.Lock()

    async def reserve(self, key: JobKey, num_bytes: int) -> JobError | bool:
        """Reserve for a job that is about to be queued: True, then call `queued` or `release`; else why it must wait.

        False: it is small, or reserved already. Raises Unreachable.
        """
        name = (key.tenant, key.job)
        if num_bytes <= self.small_bytes or name in self.table.by_name:
            return False
        if self.table.refusal(key.tenant, num_bytes) is not None:
            await self._check_all()
        refusal = self.table.refusal(key.tenant, num_bytes)
        if refusal is None:
            is_new = self.table.add(Reservation(name, num_bytes, self._gossip.id, time.monotonic()))
            self._gossip.changed()
            return is_new
        stream, capacity = self._bus.subjects.replies_stream, self.table.capacity_bytes
        if refusal.is_own:
            return too_much_stored(key.tenant, refusal, STORED, stream, capacity)
        return no_room(refusal, stream, self.table.total_bytes, capacity)

    def queued(self, key: JobKey, queue_seq: int) -> None:
        """Note the message of a reserved job; it is gone from JOBS already if the job's log existed before."""
        self.table.set_queued((key.tenant, key.job), queue_seq)
        self._gossip.changed()

    def release(self, key: JobKey) -> None:
        """Free the room of a job that has ended, or that the bus did not take. Without effect for any other."""
        if self.table.remove((key.tenant, key.job)):
            self._gossip.changed()

    async def run(self) -> None:
        """Find out which jobs have ended until cancelled. A round that fails is logged."""
        await self.scan()
        while True:
            await asyncio.sleep(_PERIOD_S)
            before_s = time.monotonic() - _CHECK_AGAIN_S
            try:
                await self._check(self.table.to_check(before_s, _MAX_CHECKS, of_others=False))
            except BusError as error:
                log.warning("limit.refresh_failed", error=str(error))  # the next round tries again

    async def _check_all(self) -> None:
        """Drop the reservations of all jobs that have ended.

        Requests that arrive meanwhile wait for the next check and share it: each is answered by one that began after
        its arrival, and a flood of requests is no flood of checks.
        """
        arrived_s = time.monotonic()
        async with self._checking:
            if self._checked_s > arrived_s:
                return
            await asyncio.sleep(max(0.0, self._checked_s + _PAUSE_S - arrived_s))
            self._checked_s = time.monotonic()
            await self._check(self.table.to_check(self._checked_s, _MAX_CHECKS, of_others=True))

    async def _check(self, rows: list[Reservation]) -> None:
        for start in range(0, len(rows), _CONCURRENCY):
            await asyncio.gather(*(self._check_one(row) for row in rows[start : start + _CONCURRENCY]))

    async def _check_one(self, row: Reservation) -> None:
        now_s = time.monotonic()
        age_s = now_s - row.since_s
        if not row.queue_seq and age_s >= _LOST_S:
            # Its acceptance was cut off, or its gateway has died.
            birth = await self._bus.logs.birth(self._bus.subjects.job_key(*row.name))
            row.queue_seq = birth[1].queue_seq if birth is not None else 0
        if row.queue_seq and age_s >= self._lag_s:
            is_queued = await self._bus.js.direct.holds(self._bus.subjects.jobs_stream, row.queue_seq)
        else:
            is_queued = bool(row.queue_seq) or age_s < _LOST_S
        row.checked_s = now_s
        if not is_queued and self.table.by_name.get(row.name) is row:
            self.table.remove(row.name)
            self._gossip.changed()

    async def scan(self) -> None:
        """Reserve for large jobs in the queue that no gateway reported. A failure is logged."""
        subjects, seq = self._bus.subjects, 1
        async with self._scanning:
            try:
                for _ in range(_MAX_PAGES):
                    page, num_pending = await self._bus.js.direct.page(subjects.jobs_stream, subjects.all_jobs, seq)
                    for stored in page:
                        self._found(stored.message.subject, stored.seq, stored.message.data)
                    if not page or not num_pending:
                        return
                    seq = page[-1].seq + 1
                log.warning("limit.queue_too_long", pages=_MAX_PAGES)
            except BusError as error:
                log.warning("limit.refresh_failed", error=str(error))

    def _found(self, subject: str, seq: int, data: bytes) -> None:
        try:
            job = wire.decode(_Sized, data)
            key = self._bus.subjects.job_key(self._bus.subjects.parse_job(subject).tenant, job.id)
        except (Malformed, ValueError):
            return  # it is no job, or it has no id and so no gateway
        if job.max_bytes > self.small_bytes:
            self.table.add(Reservation((key.tenant, key.job), job.max_bytes, "", time.monotonic(), seq))
