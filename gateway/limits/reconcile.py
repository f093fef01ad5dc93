"""When do counted jobs end? Heard by whoever listens; else asked of the queue, now and then, or when room is wanted."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bus import wire
from bus.access.keys import Limits
from bus.errors import BusError, JobError, Malformed
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from gateway.limits.audio_charges import Audio, NoEndYet
from gateway.limits.counted_jobs import Counted, CountedJobs, Name, account_of
from gateway.limits.gossip import Gossip

log = logger(__name__)

_LOOK_S: Final = 0.5
#: Questions of one look, so that thousands of counted jobs cost no more than a few hundred.
_MOST: Final = 64
_AT_ONCE: Final = 16
#: Between two vain looks for room, for each job that was asked about: a flood of requests must not become one of ours.
_REST_S: Final = 0.005
#: … and at least.
_LEAST_REST_S: Final = 0.025
#: A copy of JOBS that answers may be so far behind.
_BEHIND_S: Final = 2.0
#: A job that is on its way into the queue for so long never gets there.
_LOST_S: Final = 10.0
#: Of 256 jobs: what is read of a tenant's queue when this gateway first needs to know it.
_MAX_PAGES: Final = 40
_CLOSE_S: Final = 2.0
#: What is wrong with a job's own log, and will be tomorrow.
_LASTING: Final = (Malformed, JobError)


class Watch:
    """Ends what `jobs` counts, and charges it."""

    def __init__(
        self,
        bus: Bus,
        jobs: CountedJobs,
        audio: Audio,
        gossip: Gossip,
        tasks: asyncio.TaskGroup,
        limits_of: Callable[[str, str], Limits],
    ) -> None:
        """`limits_of`: those of a key's id, in the hands of a tenant. `tasks` outlives every request."""
        self._limits_of = limits_of
        self._bus, self._jobs, self._audio, self._gossip, self._tasks = bus, jobs, audio, gossip, tasks
        self._settle_s = _BEHIND_S if bus.settings.replicas > 1 else 0.0
        self._known: set[str] = set()
        self._reading = asyncio.Lock()
        #: By account: when the last vain look for room began, and when the next may.
        self._vain: dict[str, tuple[float, float]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        #: Ended and not charged: account by name.
        self._owing: dict[Name, str] = {}
        self._charging = asyncio.Lock()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s = time.monotonic()
            self._vain = {account: look for account, look in self._vain.items() if look[1] > now_s}
            self._locks = {account: lock for account, lock in self._locks.items() if lock.locked()}
            try:
                await self._ask(self._jobs.due(now_s, _MOST))
            except BusError as error:
                log.warning("limit.refresh_failed", error=str(error))  # the next look asks again
            await self.charge()

    async def close(self) -> None:
        """Charge what is owed, for some seconds at most; what is left is told."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.charge()
        except TimeoutError:
            log.warning("limit.charge_failed", jobs=len(self._owing), error=f"not within {_CLOSE_S:g} s of stopping")

    # Which jobs there are

    async def know(self, tenant: str) -> None:
        """Count what is queued and runs of a tenant, once: what was accepted before this gateway was there."""
        if tenant in self._known:
            return
        async with self._reading:
            if tenant not in self._known:
                await self._read(tenant)
                self._known.add(tenant)

    def know_anew(self) -> None:
        """A gateway is gone, perhaps before it told of all that it accepted."""
        if self._known:
            self._tasks.create_task(self._know_anew(list(self._known)), name="count the queue")

    async def _know_anew(self, tenants: list[str]) -> None:
        self._known.clear()
        for tenant in tenants:
            try:
                await self.know(tenant)
            except BusError as error:
                log.warning(
                    "limit.refresh_failed", tenant=tenant, error=str(error)
                )  # the tenant's next request asks again

    async def _read(self, tenant: str) -> None:
        stream, subject, seq = self._bus.subjects.jobs_stream, self._bus.subjects.jobs_for(tenant), 1
        for _ in range(_MAX_PAGES):
            page, pending = await self._bus.js.direct.page(stream, subject, seq)
            for stored in page:
                try:
                    job = wire.decode(wire.Job, stored.message.data)
                except Malformed:
                    log.debug("limit.message_unreadable", tenant=tenant, seq=stored.seq)
                    continue
                self._found(tenant, job, stored.seq)
            if not page or not pending:
                return
            seq = page[-1].seq + 1
        log.warning("limit.queue_too_long", tenant=tenant, pages=_MAX_PAGES)

    def _found(self, tenant: str, job: wire.Job, queue_seq: int) -> None:
        limits = self._limits_of(job.client.key, tenant)
        if not job.id or not limits.count_jobs:
            return
        now_s = time.monotonic()
        account, is_charged = account_of(job.client.key, tenant), limits.audio_s_per_day is not None
        self._jobs.add(Counted((tenant, job.id), account, "", now_s, now_s + _LOOK_S, queue_seq, is_charged=is_charged))

    # Which have ended

    async def make_room(self, account: str, most: int) -> bool:
        """Ask about the account's jobs until fewer than `most` are left, or all of them run. Raises Unreachable.

        Whoever comes while somebody looks waits, and shares the next look with all who wait: each is answered by one
        that began after it came.
        """
        arrived_s = time.monotonic()
        lock = self._locks.setdefault(account, asyncio.Lock())
        async with lock:
            began_s, rested_s = self._vain.get(account, (0.0, 0.0))
            if self._jobs.count(account) < most or began_s > arrived_s:
                return self._jobs.count(account) < most
            await asyncio.sleep(max(0.0, rested_s - time.monotonic()))
            began_s = time.monotonic()
            asked = await self._look_for_room(account, most)
            if self._jobs.count(account) >= most:
                # Whoever has just heard the end of a job may be here before its message has left the queue.
                asked = await self._look_for_room(account, most, in_logs=True)
            if self._jobs.count(account) >= most:
                self._vain[account] = (began_s, time.monotonic() + max(_LEAST_REST_S, _REST_S * asked))
        return self._jobs.count(account) < most

    async def _look_for_room(self, account: str, most: int, *, in_logs: bool = False) -> int:
        """Returns how many were asked about. `in_logs`: what is queued may have ended, as its log tells."""
        candidates = self._jobs.longest_unasked(account, _MOST)
        for start in range(0, len(candidates), _AT_ONCE):
            if self._jobs.count(account) < most:
                return start
            await self._ask(candidates[start : start + _AT_ONCE], in_logs=in_logs)
        return len(candidates)

    async def _ask(self, jobs: list[Counted], *, in_logs: bool = False) -> None:
        for start in range(0, len(jobs), _AT_ONCE):
            await asyncio.gather(*(self._ask_one(job, in_logs) for job in jobs[start : start + _AT_ONCE]))

    async def _ask_one(self, job: Counted, in_logs: bool) -> None:
        now_s = time.monotonic()
        age_s = now_s - job.since_s
        if not job.queue_seq:
            # It is on its way into the queue, as far as we know; or whoever accepted it was cut off, or has died.
            born = await self._bus.logs.birth(self._bus.subjects.job_key(*job.name))
            job.queue_seq = born[1].queue_seq if born is not None else 0
        if job.queue_seq and age_s >= self._settle_s:
            is_there = await self._bus.js.direct.holds(self._bus.subjects.jobs_stream, job.queue_seq)
        else:
            is_there = bool(job.queue_seq) or age_s < _LOST_S
        if is_there and in_logs:
            tail = await self._bus.logs.tail(self._bus.subjects.job_key(*job.name))
            is_there = tail is None or not tail.is_end
        if is_there:
            self._jobs.runs_on(job, now_s)
        else:
            self.ended(job.name)

    def ended(self, name: Name) -> None:
        """A job has ended: it counts no more, and is charged.

        By every gateway that finds that out, since the ledger charges it once: its owner may be dead, and nobody know.
        """
        job = self._jobs.remove(name)
        if job is None:
            return
        self._gossip.changed()
        if job.is_charged:
            self._owing[name] = job.account
            self._tasks.create_task(self.charge(), name=f"charge {name[1]}")

    # What they cost

    async def charge(self) -> None:
        """Charge what is owed. What cannot be charged now stays owed; what never can be is told, and forgotten."""
        async with self._charging:
            for name, account in list(self._owing.items()):
                try:
                    ms, total_ms = await self._audio.charge(account, self._bus.subjects.job_key(*name))
                except BusError as error:
                    log.warning(
                        "limit.charge_failed", job=name[1], tenant=name[0], jobs=len(self._owing), error=str(error)
                    )
                    if isinstance(error, _LASTING):
                        del self._owing[name]
                    elif not isinstance(error, NoEndYet):
                        return  # the bus cannot be asked about the others either
                    continue
                self._owing.pop(name, None)
                self._gossip.changed()
                log.debug("limit.charged", job=name[1], tenant=name[0], account=account, ms=ms, total_ms=total_ms)
