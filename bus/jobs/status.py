"""A job's state, derived from its log and nothing else (protocol rule 12)."""

import math
from typing import Literal

import msgspec

from bus import wire
from bus.errors import Gone, NotFound
from bus.jobs.entry import Entry, Position
from bus.jobs.log import Logs
from bus.subjects import JobKey

State = Literal["queued", "running", "interrupted", "done", "failed", "cancelled", "expired"]


class Status(msgspec.Struct, frozen=True):
    state: State
    birth_seq: int
    birth: wire.Birth
    lease: wire.Lease | None
    tail: Entry | None

    @property
    def position(self) -> Position:
        return self.tail.position if self.tail is not None else Position()

    @property
    def is_ended(self) -> bool:
        return self.tail is not None and self.tail.is_end


async def status(logs: Logs, key: JobKey) -> Status:
    """Where the job stands, by leader reads. An announced ending is finished on the way (rule 13).

    Raises NotFound, Gone (its beginning was removed by retention), Unreachable.
    """
    found = await logs.birth(key)
    tail = await logs.tail(key)
    if found is None and tail is not None:
        found = await logs.birth(key)  # it was born, and began to speak, between the two looks
    if found is None:
        if tail is not None:
            raise Gone(f"job {key.job!r}: its beginning was removed by retention")
        raise NotFound(f"no job {key.job!r}")
    lease = await logs.lease(key)
    if lease is not None and lease[1].why in wire.ENDS and not (tail is not None and tail.is_end):
        await logs.end(key, "cancelled", lease[1].detail)
        tail = await logs.tail(key)
    return Status(derive(tail, lease[1] if lease else None), found[0], found[1], lease[1] if lease else None, tail)


def next_deadline(birth: wire.Birth, has_audio: bool) -> tuple[float, str]:
    """When the job expires if nothing more happens, Unix seconds of the bus's clock, and why. Pure.

    Infinity for a job without a deadline.
    """
    job, deadlines = birth.job, [(math.inf, "")]
    if job.expires_at is not None:
        deadlines.append((job.expires_at.timestamp(), f"not done by {job.expires_at.isoformat()}"))
    if job.first_audio_deadline_s is not None and not has_audio:
        limit_s = job.first_audio_deadline_s
        deadlines.append((birth.accepted_at + limit_s, f"no audio within {limit_s:g} s of its acceptance"))
    return min(deadlines)


def derive(tail: Entry | None, lease: wire.Lease | None) -> State:
    """The terminal entry, else the lease. Pure."""
    if tail is not None and tail.is_end:
        return tail.kind  # type: ignore[return-value]  # is_end says it is one of ENDS
    if lease is None:
        return "queued"
    return "running" if lease.why == "running" else "interrupted"
