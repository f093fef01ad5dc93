"""Accepting a job: queue it, write the log's birth, settle which of equal requests made it.

The gateway's side of protocol rules 3 to 5.
"""

import hashlib

import msgspec

from bus import wire
from bus.errors import Conflict, Full, Invalid, StorageFull
from bus.jobs import ids
from bus.jobs.birth import is_repeat, new_birth, with_deadline
from bus.jobs.client import Bus


class Accepted(msgspec.Struct, frozen=True):
    """A job that JOBS has acknowledged: from here on no crash of one process loses it."""

    birth: wire.Birth
    #: Sequence of the `accepted` entry in REPLIES.
    seq: int
    #: Whether this request made the job; False: it attached to one with the same id and body.
    is_new: bool

    @property
    def job(self) -> wire.Job:
        """The job, complete."""
        return self.birth.job


async def submit(bus: Bus, job: wire.Job) -> Accepted:
    """Accept `job`, which must be complete: id, model, version, lane and tenant.

    Cancelling leaves it open whether the job was queued; a queued one without listeners is ended by the worker that
    runs it. Submitting again with the same id attaches.

    Raises:
        Invalid: the id has the form that the bus assigns to jobs without one.
        Conflict: the id exists with another body.
        StorageFull: JOBS or REPLIES take no more.
        Unreachable: no leader within the election patience.
    """
    if ids.is_assigned(job.id):
        raise Invalid(f"id: {job.id!r} has the form that the bus assigns to jobs without an id", "id")
    key = bus.subjects.job_key(job.tenant, job.id)
    now_s = bus.clock.now()
    queued = with_deadline(job, now_s)
    subject = bus.subjects.job(job.model, job.version, job.lane, job.tenant)
    try:
        # No message id: de-duplication is per stream and would answer for another tenant's job. A message that is
        # stored twice is settled by the birth, which has the sequence of one of them.
        ack = await bus.js.publish(subject, wire.encode(queued))
    except Full as error:
        raise StorageFull(f"the bus takes no new jobs: {error}") from error
    birth = new_birth(queued, ack.seq, now_s)
    try:
        found = await bus.logs.create(key, birth)
    except Full as error:
        # Left in JOBS, the refused job would run once there is room, although the client got a refusal.
        await bus.js.delete(bus.subjects.jobs_stream, ack.seq)
        raise StorageFull(f"the bus takes no new jobs: {error}") from error
    if found.birth.queue_seq == ack.seq:
        return Accepted(found.birth, found.seq, is_new=True)
    await bus.js.delete(bus.subjects.jobs_stream, ack.seq)
    if found.birth.digest == birth.digest or is_repeat(queued, found.birth.job):
        # If the message was stored twice for want of an answer, and a worker has the first one, the birth is the
        # worker's. Its job then has the deadline that was set here, which no other request's has.
        return Accepted(found.birth, found.seq, is_new=queued is not job and found.birth.job == queued)
    digests = f"digest {found.birth.digest[:12]}, this one {birth.digest[:12]}"
    raise Conflict(f"id: {job.id!r} exists with another body ({digests})")


def keyed_id(api: str, key: str) -> str:
    """The id that an idempotency key stands for: equal keys at one API meet in one log."""
    return "k" + hashlib.sha256(f"{api}\0{key}".encode()).hexdigest()[:40]
