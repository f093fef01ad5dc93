"""A job's state, derived from its log alone (protocol rule 12)."""

import msgspec

from bus import wire
from bus.errors import Gone, NotFound
from bus.jobs.entry import Entry, Position
from bus.jobs.log import Logs
from bus.subjects import JobKey
from bus.wire import State


class Status(msgspec.Struct, frozen=True):
    """A job at one moment."""

    state: State
    #: Sequence of the birth in REPLIES; the log's entries come after it.
    birth_seq: int
    birth: wire.Birth
    #: None if no worker ever took the job.
    lease: wire.Lease | None
    #: The last entry; None for an empty log.
    tail: Entry | None

    @property
    def position(self) -> Position:
        """Where the log stands. Raises Malformed."""
        return self.tail.position if self.tail is not None else Position()

    @property
    def is_ended(self) -> bool:
        """Whether the log has its terminal entry."""
        return self.tail is not None and self.tail.is_end


async def status(logs: Logs, key: JobKey) -> Status:
    """The job as leader reads show it. An announced ending is finished on the way (rule 13).

    Raises NotFound, Gone (its beginning was removed by retention), Unreachable.
    """
    found = await logs.birth(key)
    tail = await logs.tail(key)
    if found is None and tail is not None:
        found = await logs.birth(key)  # the job was born, and its first entry stored, between the two reads
    if found is None:
        if tail is not None:
            raise Gone(f"job {key.job!r}: its beginning was removed by retention")
        raise NotFound(f"no job {key.job!r}")
    stored = await logs.lease(key)
    lease = None if stored is None else stored.lease
    if lease is not None and lease.state in wire.ENDS and not (tail is not None and tail.is_end):
        await logs.end(key, wire.End.CANCELLED, lease.detail)
        tail = await logs.tail(key)
    return Status(derive(tail, lease), found.seq, found.birth, lease, tail)


def derive(tail: Entry | None, lease: wire.Lease | None) -> State:
    """The state that a log's last entry and its lease show: the terminal entry, else the lease. Pure."""
    if tail is not None and tail.is_end:
        return State(tail.kind)
    if lease is None:
        return State.QUEUED
    return State.RUNNING if lease.state == wire.LeaseState.RUNNING else State.INTERRUPTED
