"""Jobs that count against a limit, of all gateways: which gateway accepted each, and when to check whether it ended.

Pure: a table without a clock or a bus. The queue decides whether a job has ended: its message stays in JOBS, also while
it runs, until its log has an end. Where a place is wanted, the log itself decides. So a job counts until it ends,
whichever gateway accepted it, and whether or not that gateway still runs.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from gateway.limits.gossip import AcceptedJob, EndedJob

#: (tenant, job id).
JobName = tuple[str, str]

_FIRST_CHECK_S: Final = 1.0
_LAST_CHECK_S: Final = 10.0


def account_of(key: str, tenant: str) -> str:
    """The account whose limits apply: the key's, or the tenant's for callers without a key."""
    return f"key-{key}" if key else f"tenant-{tenant}"


class CountedJob(msgspec.Struct):
    """One job that counts against its account's limits."""

    name: JobName
    account: str
    #: Id of the gateway that accepted it; "" if that is not known.
    owner: str
    #: Since when this gateway knows it.
    since_s: float
    #: When to check whether it has ended.
    due_s: float
    #: Sequence of its message in JOBS; 0 while that is not known.
    queue_seq: int = 0
    #: Whether its audio is charged to the account when it ends.
    is_charged: bool = False
    #: When it was last found running; 0: never.
    checked_s: float = 0.0


class CountedJobs:
    """The table. Times are seconds of one monotonic clock of this process."""

    def __init__(self, gateway: str) -> None:
        """`gateway`: this gateway's id."""
        self._gateway = gateway
        self._jobs: dict[JobName, CountedJob] = {}
        #: Every counted job; changed by the methods of this class only.
        self.by_name: Mapping[JobName, CountedJob] = MappingProxyType(self._jobs)
        self._by_account: dict[str, dict[JobName, CountedJob]] = {}
        self._unreported: dict[JobName, None] = {}
        self._ended: dict[JobName, None] = {}

    def count(self, account: str) -> int:
        """Jobs of the account that have not ended."""
        return len(self._by_account.get(account, ()))

    def add(self, job: CountedJob) -> bool:
        """Count a job; False if it is counted already."""
        if job.name in self._jobs:
            return False
        self._jobs[job.name] = job
        self._by_account.setdefault(job.account, {})[job.name] = job
        if job.owner == self._gateway:
            self._unreported[job.name] = None
        return True

    def set_queued(self, job: CountedJob, queue_seq: int) -> None:
        """Note that a job which this gateway accepts is now in the queue."""
        job.queue_seq = queue_seq
        if job.name in self._jobs and job.owner == self._gateway:
            self._unreported[job.name] = None

    def remove(self, name: JobName, *, report: bool = True) -> CountedJob | None:
        """Stop counting a job that has ended or was refused; `report`: to the other gateways. None: not counted."""
        job = self._jobs.pop(name, None)
        if job is None:
            return None
        same_account = self._by_account[job.account]
        del same_account[name]
        if not same_account:
            del self._by_account[job.account]
        self._unreported.pop(name, None)
        if report:
            self._ended[name] = None
        return job

    def least_recently_checked(self, account: str, most: int) -> list[CountedJob]:
        """At most so many jobs of the account, the longest unchecked first."""
        return sorted(self._by_account.get(account, {}).values(), key=lambda job: job.checked_s)[:most]

    def due(self, now_s: float, most: int) -> list[CountedJob]:
        """At most so many jobs that are due for a check, the longest overdue first."""
        found = [job for job in self._jobs.values() if job.due_s <= now_s]
        return sorted(found, key=lambda job: job.due_s)[:most]

    def postpone(self, job: CountedJob, now_s: float) -> None:
        """Schedule the next check of a job that has not ended: the older it is, the later, 10 s at most."""
        job.checked_s = now_s
        job.due_s = now_s + min(_LAST_CHECK_S, max(_FIRST_CHECK_S, (now_s - job.since_s) / 2))

    def orphan(self, gateway: str, now_s: float) -> None:
        """Check the jobs of a gateway that has left at once: every remaining gateway does."""
        for job in self._jobs.values():
            if job.owner == gateway:
                job.due_s = now_s

    def take_changes(self, *, full: bool) -> tuple[list[AcceptedJob], list[EndedJob]]:
        """Jobs accepted and ended here since the last call; `full`: every job accepted here that has not ended."""
        if full:
            accepted: Iterable[CountedJob] = [job for job in self._jobs.values() if job.owner == self._gateway]
        else:
            accepted = [self._jobs[name] for name in self._unreported]
        ended = [EndedJob(*name) for name in self._ended]
        self._unreported.clear()
        self._ended.clear()
        return [AcceptedJob(job.account, *job.name, job.queue_seq, job.is_charged) for job in accepted], ended

    def merge(self, gateway: str, accepted: list[AcceptedJob], ended: list[EndedJob], now_s: float) -> None:
        """Apply the report of another gateway. It checks its jobs itself; this one does so later, or when it leaves."""
        for each in accepted:
            name = (each.tenant, each.job)
            job = self._jobs.get(name)
            if job is None:
                job = CountedJob(name, each.account, gateway, now_s, now_s + _LAST_CHECK_S)
                self.add(job)
            elif job.owner == self._gateway:
                continue  # both gateways accept one job; `set_queued` here finds out which of them made it
            job.owner = gateway
            job.is_charged = each.is_charged
            job.queue_seq = each.queue_seq or job.queue_seq
        for gone in ended:
            job = self._jobs.get((gone.tenant, gone.job))
            if job is not None and job.owner == gateway:
                self.remove(job.name, report=False)
            elif job is not None:
                # Its owner learns of the end where it listens, and charges the job.
                job.due_s = now_s
                job.checked_s = 0.0
