"""Jobs that count against a limit, of all gateways: which there are, who accepted them, which of them may have ended.

Pure: a table without a clock or a bus. Whether a job has ended is told by the queue: its message stays in JOBS, also
while it runs, until its log has an end; and, where room is wanted, by that log. So a job counts for as long as it is
one, whoever accepted it, listens to it, or has died.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.limits.gossip import Began, Ended

#: (tenant, job).
Name = tuple[str, str]

_FIRST_LOOK_S: Final = 1.0
_LAST_LOOK_S: Final = 10.0


def account_of(key: str, tenant: str) -> str:
    """Whose limits they are: the key's, or the tenant's for callers without one."""
    return f"key-{key}" if key else f"tenant-{tenant}"


class Counted(msgspec.Struct):
    """One job. `owner`: the gateway that accepted it, "" if that is not known."""

    name: Name
    account: str
    owner: str
    since_s: float
    #: When it should be asked whether it has ended.
    due_s: float
    #: Of its message in JOBS; 0 while that is not known.
    queue_seq: int = 0
    #: Whether its audio is charged to the account when it ends.
    is_charged: bool = False
    asked_s: float = 0.0


class CountedJobs:
    """`me` is this gateway. Times are seconds of one clock of this process."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._jobs: dict[Name, Counted] = {}
        self._of: dict[str, dict[Name, Counted]] = {}
        self._began: dict[Name, None] = {}
        self._ended: dict[Name, None] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, name: Name) -> Counted | None:
        return self._jobs.get(name)

    def count(self, account: str) -> int:
        return len(self._of.get(account, ()))

    def add(self, job: Counted) -> bool:
        """Count a job; False if it is counted already."""
        if job.name in self._jobs:
            return False
        self._jobs[job.name] = self._of.setdefault(job.account, {})[job.name] = job
        if job.owner == self._me:
            self._began[job.name] = None
        return True

    def queued(self, job: Counted, queue_seq: int) -> None:
        """A job that this gateway accepts is in the queue now."""
        job.queue_seq = queue_seq
        if job.name in self._jobs and job.owner == self._me:
            self._began[job.name] = None

    def remove(self, name: Name, *, tell: bool = True) -> Counted | None:
        """The job has ended, or never was one. `tell`: the others too."""
        job = self._jobs.pop(name, None)
        if job is None:
            return None
        of = self._of[job.account]
        del of[name]
        if not of:
            del self._of[job.account]
        self._began.pop(name, None)
        if tell:
            self._ended[name] = None
        return job

    # Which to ask about

    def longest_unasked(self, account: str, most: int) -> list[Counted]:
        return sorted(self._of.get(account, {}).values(), key=lambda job: job.asked_s)[:most]

    def due(self, now_s: float, most: int) -> list[Counted]:
        found = [job for job in self._jobs.values() if job.due_s <= now_s]
        return sorted(found, key=lambda job: job.due_s)[:most]

    def runs_on(self, job: Counted, now_s: float) -> None:
        """It has not ended yet: ask again, the later the longer it takes."""
        job.asked_s = now_s
        job.due_s = now_s + min(_LAST_LOOK_S, max(_FIRST_LOOK_S, (now_s - job.since_s) / 2))

    def orphan(self, gateway: str, now_s: float) -> None:
        """The gateway is gone: its jobs are everybody's to ask about."""
        for job in self._jobs.values():
            if job.owner == gateway:
                job.due_s = now_s

    # What gateways tell each other

    def news(self, *, everything: bool) -> tuple[list[Began], list[Ended]]:
        """What began and ended here since the last call; `everything`: all that this gateway accepted."""
        if everything:
            began: Iterable[Counted] = [job for job in self._jobs.values() if job.owner == self._me]
        else:
            began = [self._jobs[name] for name in self._began]
        ended = [Ended(*name) for name in self._ended]
        self._began.clear()
        self._ended.clear()
        return [Began(job.account, *job.name, job.queue_seq, job.is_charged) for job in began], ended

    def hear(self, gateway: str, began: list[Began], ended: list[Ended], now_s: float) -> None:
        """Count what another gateway accepted. Its jobs are its own to ask about, unless it is gone."""
        for each in began:
            job = self._jobs.get((each.tenant, each.job))
            if job is None:
                name = (each.tenant, each.job)
                job = Counted(name, each.account, gateway, now_s, now_s + _LAST_LOOK_S)
                self.add(job)
            elif job.owner == self._me:
                continue  # both were asked for one job; ours finds out whose it is
            job.owner, job.is_charged = gateway, each.is_charged
            job.queue_seq = each.queue_seq or job.queue_seq
        for gone in ended:
            job = self._jobs.get((gone.tenant, gone.job))
            if job is not None and job.owner == gateway:
                self.remove(job.name, tell=False)
            elif job is not None:
                job.due_s, job.asked_s = now_s, 0.0  # its owner is told of the end where it listens, and charges
