"""Audio that accepted jobs may still make, of all gateways, by tenant. Pure: a table without a clock or a bus.

Only jobs whose bound is a thousandth of the store or more are in it. So it is small however long the queue is; and as
smaller ones need room only while they run, a few of them at a time, the rest of the store has it.

Whether a job has ended is decided by the queue: its message stays in JOBS until its log has an end.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from bus.fair_pool import FairPool, Refusal
from gateway.limits.counted_jobs import JobName
from gateway.limits.gossip import EndedJob, ReservedJob


class Reservation(msgspec.Struct):
    """The room of one job."""

    name: JobName
    #: Most bytes of PCM that it makes.
    num_bytes: int
    #: Id of the gateway that accepted it; "" if that is not known or has left.
    owner: str
    #: Since when this gateway knows it.
    since_s: float
    #: Sequence of its message in JOBS; 0 while that is not known.
    queue_seq: int = 0
    #: When it was last found in the queue; 0: never.
    checked_s: float = 0.0


class ReservedAudio:
    """The table. Times are seconds of one monotonic clock of this process."""

    def __init__(self, gateway: str, capacity_bytes: int) -> None:
        """`gateway`: this gateway's id. `capacity_bytes`: the most that all jobs together may fill."""
        self._gateway = gateway
        #: Reserved bytes by tenant; changed by the methods of this class only.
        self.pool: Final = FairPool(capacity_bytes)
        self._rows: dict[JobName, Reservation] = {}
        #: Every reservation; changed by the methods of this class only.
        self.by_name: Mapping[JobName, Reservation] = MappingProxyType(self._rows)
        self._unreported: dict[JobName, None] = {}
        self._ended: dict[JobName, None] = {}

    @property
    def capacity_bytes(self) -> int:
        """The most that all jobs together may fill."""
        return int(self.pool.capacity)

    @property
    def total_bytes(self) -> int:
        """Reserved for all tenants."""
        return int(self.pool.total)

    def refusal(self, tenant: str, num_bytes: int) -> Refusal | None:
        """Why a job of `tenant` with so many bytes does not fit at present; None if it does."""
        return self.pool.refusal(tenant, num_bytes)

    def add(self, row: Reservation) -> bool:
        """Reserve, whether it fits or not; False if the job is in the table already."""
        if row.name in self._rows:
            return False
        self._rows[row.name] = row
        self.pool.add(row.name[0], row.num_bytes)
        if row.owner == self._gateway:
            self._unreported[row.name] = None
        return True

    def set_queued(self, name: JobName, queue_seq: int) -> None:
        """Note that a job which this gateway accepts is now in the queue."""
        row = self._rows.get(name)
        if row is not None:
            row.queue_seq = queue_seq
            if row.owner == self._gateway:
                self._unreported[name] = None

    def remove(self, name: JobName) -> bool:
        """Free the room of a job that has ended or was refused; False if it is not in the table."""
        row = self._rows.get(name)
        if row is None:
            return False
        self._drop(row)
        if row.owner == self._gateway:
            self._ended[name] = None
        return True

    def _drop(self, row: Reservation) -> None:
        del self._rows[row.name]
        self._unreported.pop(row.name, None)
        self.pool.give_back(row.name[0], row.num_bytes)

    def to_check(self, before_s: float, most: int, *, of_others: bool) -> list[Reservation]:
        """At most so many that were not checked since `before_s`, the longest unchecked first.

        Without `of_others` only those of this gateway, and of none: the other gateways check their own.
        """
        mine = {self._gateway, ""}
        found = [
            row
            for row in self._rows.values()
            if row.checked_s <= before_s and row.since_s <= before_s and (of_others or row.owner in mine)
        ]
        return sorted(found, key=lambda row: row.checked_s)[:most]

    def take_changes(self, *, full: bool) -> tuple[list[ReservedJob], list[EndedJob]]:
        """Jobs reserved and freed here since the last call; `full`: all that is reserved by this gateway."""
        names: Iterable[JobName] = self._unreported
        if full:
            names = [name for name, row in self._rows.items() if row.owner == self._gateway]
        rows = [self._rows[name] for name in names]
        ended = [EndedJob(*name) for name in self._ended]
        self._unreported.clear()
        self._ended.clear()
        return [ReservedJob(*row.name, row.queue_seq, row.num_bytes) for row in rows], ended

    def merge(self, gateway: str, reserved: list[ReservedJob], ended: list[EndedJob], now_s: float) -> None:
        """Apply the report of another gateway."""
        for each in reserved:
            name = (each.tenant, each.job)
            row = self._rows.get(name)
            if row is None:
                self.add(Reservation(name, each.num_bytes, gateway, now_s, each.queue_seq))
            elif row.owner != self._gateway:  # else two gateways accept one job, and its message decides
                row.owner = gateway
                row.queue_seq = each.queue_seq or row.queue_seq
        for gone in ended:
            row = self._rows.get((gone.tenant, gone.job))
            if row is not None and row.owner == gateway:
                self._drop(row)

    def orphan(self, gateway: str) -> None:
        """A gateway has left: every other one checks its jobs from now on."""
        for row in self._rows.values():
            if row.owner == gateway:
                row.owner = ""
