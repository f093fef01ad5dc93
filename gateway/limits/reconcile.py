"""Reconciles the counted jobs with JetStream: on end events, periodically, and when a limit is reached."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from bus.errors import BusError
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from gateway.limits.counted_jobs import CountedJob, CountedJobs, JobName
from gateway.limits.pending_charges import PendingCharges

log = logger(__name__)

_PERIOD_S: Final = 0.5
#: Jobs checked per round, so that thousands of counted jobs cost no more than some hundred requests a second.
_MAX_CHECKS: Final = 64
_CONCURRENCY: Final = 16
#: Least pause after a refresh that freed no place, for each job that was checked, so that a flood of requests does not
#: become a flood of checks; and the least in all.
_PAUSE_PER_CHECK_S: Final = 0.005
_MIN_PAUSE_S: Final = 0.025
#: A replica of JOBS that answers may lag this far behind its leader.
_REPLICA_LAG_S: Final = 2.0
#: A job that is not in the queue this long after it was accepted never gets there.
_LOST_S: Final = 10.0


class _FailedRefresh(NamedTuple):
    """The last refresh of an account that freed no place."""

    began_s: float
    #: The next one may begin then.
    next_s: float


_NO_REFRESH: Final = _FailedRefresh(0.0, 0.0)


class Reconciler:
    """Finds out which counted jobs have ended, stops counting them, and has them charged."""

    def __init__(
        self,
        bus: Bus,
        jobs: CountedJobs,
        charges: PendingCharges,
        on_change: Callable[[], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        """`on_change` is called when a job counts no longer. `tasks` outlives every request."""
        self._bus = bus
        self._jobs = jobs
        self._charges = charges
        self._on_change = on_change
        self._tasks = tasks
        self._lag_s = _REPLICA_LAG_S if bus.settings.replicas > 1 else 0.0
        #: By account.
        self._failed: dict[str, _FailedRefresh] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self) -> None:
        """Check the jobs that are due, and charge, every half second until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            now_s = time.monotonic()
            self._failed = {account: each for account, each in self._failed.items() if each.next_s > now_s}
            self._locks = {account: lock for account, lock in self._locks.items() if lock.locked()}
            try:
                if self._jobs.by_name:
                    await self._check(self._jobs.due(now_s, _MAX_CHECKS))
            except BusError as error:
                log.warning("limit.refresh_failed", error=str(error))  # the next round tries again
            if self._charges.uncharged:
                await self._charges.charge()

    async def refresh(self, account: str, most: int) -> bool:
        """Check the account's jobs until fewer than `most` count, or all were checked; whether fewer than `most` do.

        Requests that arrive during a refresh wait for the next one and share it: each is answered by a refresh that
        began after its arrival. Raises Unreachable.
        """
        arrived_s = time.monotonic()
        lock = self._locks.setdefault(account, asyncio.Lock())
        async with lock:
            failed = self._failed.get(account, _NO_REFRESH)
            if self._jobs.count(account) < most or failed.began_s > arrived_s:
                return self._jobs.count(account) < most
            await asyncio.sleep(max(0.0, failed.next_s - time.monotonic()))
            began_s = time.monotonic()
            num_checked = await self._check_account(account, most)
            if self._jobs.count(account) >= most:
                # A client that has just received the end of a job may be here before the job's message left the queue.
                num_checked = await self._check_account(account, most, read_logs=True)
            if self._jobs.count(account) >= most:
                pause_s = max(_MIN_PAUSE_S, _PAUSE_PER_CHECK_S * num_checked)
                self._failed[account] = _FailedRefresh(began_s, time.monotonic() + pause_s)
        return self._jobs.count(account) < most

    async def _check_account(self, account: str, most: int, *, read_logs: bool = False) -> int:
        """Check until fewer than `most` count; the number of jobs checked."""
        candidates = self._jobs.least_recently_checked(account, _MAX_CHECKS)
        for start in range(0, len(candidates), _CONCURRENCY):
            if self._jobs.count(account) < most:
                return start
            await self._check(candidates[start : start + _CONCURRENCY], read_logs=read_logs)
        return len(candidates)

    async def _check(self, jobs: list[CountedJob], *, read_logs: bool = False) -> None:
        """Stop counting those that ended; with `read_logs` also queued jobs whose log has a terminal entry."""
        for start in range(0, len(jobs), _CONCURRENCY):
            await asyncio.gather(*(self._check_one(job, read_logs) for job in jobs[start : start + _CONCURRENCY]))

    async def _check_one(self, job: CountedJob, read_logs: bool) -> None:
        now_s = time.monotonic()
        age_s = now_s - job.since_s
        if not job.queue_seq:
            # It is about to be queued, as far as is known here; or its acceptance was cut off, or its gateway has died.
            birth = await self._bus.logs.birth(self._bus.subjects.job_key(*job.name))
            job.queue_seq = birth[1].queue_seq if birth is not None else 0
        if job.queue_seq and age_s >= self._lag_s:
            is_queued = await self._bus.js.direct.holds(self._bus.subjects.jobs_stream, job.queue_seq)
        else:
            is_queued = bool(job.queue_seq) or age_s < _LOST_S
        if is_queued and read_logs:
            tail = await self._bus.logs.tail(self._bus.subjects.job_key(*job.name))
            is_queued = tail is None or not tail.is_end
        if is_queued:
            self._jobs.postpone(job, now_s)
        else:
            self.ended(job.name)

    def ended(self, name: JobName) -> None:
        """Stop counting a job that has ended, and charge it.

        Each gateway that finds a job's end charges it, since the ledger counts a job once: the gateway that accepted it
        may be dead without any other knowing.
        """
        job = self._jobs.remove(name)
        if job is None:
            return
        self._on_change()
        if job.is_charged:
            self._charges.add(name, job.account)
            self._tasks.create_task(self._charges.charge(), name=f"charge {name[1]}")
