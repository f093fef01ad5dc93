"""Counts the jobs that were accepted before this gateway was there, by reading the queue."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bus import wire
from bus.access.keys import Limits
from bus.errors import BusError, Invalid, Malformed
from bus.jobs import ids
from bus.jobs.client import Bus
from bus.jobs.validate import read_job
from bus.telemetry.logging import logger
from gateway.limits.counted_jobs import CountedJob, CountedJobs, account_of

log = logger(__name__)

#: Pages of 256 jobs that are read of one tenant's queue.
_MAX_PAGES: Final = 40
#: A job found in the queue is checked this soon.
_FIRST_CHECK_S: Final = 0.5


class QueueScan:
    """Reads each tenant's part of the queue once, when this gateway first needs to know it."""

    def __init__(self, bus: Bus, jobs: CountedJobs, limits_of: Callable[[str, str], Limits]) -> None:
        """`limits_of(key id, tenant)`: the limits of a job of `tenant` that names that key."""
        self._bus = bus
        self._jobs = jobs
        self._limits_of = limits_of
        self._loaded: set[str] = set()
        self._loading = asyncio.Lock()

    async def load(self, tenant: str) -> None:
        """Count the tenant's queued and running jobs, unless that is done. Raises Unreachable."""
        if tenant in self._loaded:
            return
        async with self._loading:
            if tenant not in self._loaded:
                await self._read(tenant)
                self._loaded.add(tenant)

    async def reload(self) -> None:
        """Read every loaded tenant again: a gateway left, perhaps before it reported all jobs that it accepted."""
        tenants = list(self._loaded)
        self._loaded.clear()
        for tenant in tenants:
            try:
                await self.load(tenant)
            except BusError as error:
                # The tenant's next job loads it.
                log.warning("limit.refresh_failed", tenant=tenant, error=str(error))

    async def _read(self, tenant: str) -> None:
        stream = self._bus.subjects.jobs_stream
        subject = self._bus.subjects.jobs_for(tenant)
        seq = 1
        for _ in range(_MAX_PAGES):
            page, num_pending = await self._bus.js.direct.page(stream, subject, seq)
            for stored in page:
                try:
                    # Validated: later code makes subjects of the ids, and one that is no token would raise there.
                    parts = self._bus.subjects.parse_job(stored.message.subject)
                    job = read_job(parts, stored.seq, stored.message.data, self._bus.clock.now())
                except (Malformed, Invalid, ValueError):
                    log.debug("limit.message_unreadable", tenant=tenant, seq=stored.seq)
                    continue
                self._count(tenant, job, stored.seq)
            if not page or not num_pending:
                return
            seq = page[-1].seq + 1
        log.warning("limit.queue_too_long", tenant=tenant, pages=_MAX_PAGES)

    def _count(self, tenant: str, job: wire.Job, queue_seq: int) -> None:
        limits = self._limits_of(job.client.key, tenant)
        if ids.is_assigned(job.id) or not limits.count_jobs:
            return
        now_s = time.monotonic()
        self._jobs.add(
            CountedJob(
                name=(tenant, job.id),
                account=account_of(job.client.key, tenant),
                owner="",
                since_s=now_s,
                due_s=now_s + _FIRST_CHECK_S,
                queue_seq=queue_seq,
                is_charged=limits.audio_s_per_day is not None,
            )
        )
