"""How a job gets in: queue it, give its log a birth, settle who won. Protocol rules 3 to 5, from the gateway's side."""

import hashlib

import msgspec

from bus import wire
from bus.errors import Conflict, Full, Invalid, StorageFull
from bus.jobs.claim import is_given_id, with_deadline
from bus.jobs.client import Bus


class Accepted(msgspec.Struct, frozen=True):
    """A job that JOBS has acknowledged: from here on no crash of one process loses it."""

    birth: wire.Birth
    #: Sequence of the `accepted` entry.
    seq: int
    #: Whether this request made the job; False: it attached to one with the same id and body.
    is_new: bool

    @property
    def job(self) -> wire.Job:
        return self.birth.job


async def submit(bus: Bus, job: wire.Job) -> Accepted:
    """Accept `job`, which must be complete: id, model, version, lane and tenant.

    Cancelling leaves it open whether the job was queued; a queued one without listeners is found by its worker's
    question and ended. Submitting again with the same id attaches.

    Raises:
        Invalid: the id is of the form that the bus gives to jobs without one.
        Conflict: the id exists with another body.
        StorageFull: JOBS or REPLIES take no more.
        Unreachable: no leader within the election patience.
    """
    if is_given_id(job.id):
        raise Invalid(f"id: {job.id!r} is of the form that the bus gives to jobs without an id", "id")
    key = bus.subjects.job_key(job.tenant, job.id)
    now_s = bus.clock.now()
    asked, job = job, with_deadline(job, now_s)
    subject = bus.subjects.job(job.model, job.version, job.lane, job.tenant)
    try:
        # No message id: de-duplication is per stream and would answer for somebody else's job. A message that is
        # stored twice is settled by the birth, which names the sequence of one of them.
        queued = await bus.js.publish(subject, wire.encode(job))
    except Full as error:
        raise StorageFull(f"the bus takes no new jobs: {error}") from error
    birth = wire.Birth(job=job, digest=wire.digest(job), queue_seq=queued.seq, accepted_at=now_s)
    try:
        seq, stands = await bus.logs.create(key, birth)
    except Full as error:
        # Refused is refused: left in JOBS, it would run once there is room, and nobody would have asked for it.
        await bus.js.delete(bus.subjects.jobs_stream, queued.seq)
        raise StorageFull(f"the bus takes no new jobs: {error}") from error
    if stands.queue_seq == queued.seq:
        return Accepted(stands, seq, is_new=True)
    await bus.js.delete(bus.subjects.jobs_stream, queued.seq)
    if stands.digest == birth.digest:
        # Stored twice for want of an answer, and a worker was given the first? Then it has the deadline made here.
        return Accepted(stands, seq, is_new=job is not asked and stands.job == job)
    raise Conflict(
        f"id: {job.id!r} exists with another body (digest {stands.digest[:12]}, this one {birth.digest[:12]})"
    )


def keyed_id(api: str, key: str) -> str:
    """The id that an idempotency key stands for: equal keys at one API meet in one log."""
    return "k" + hashlib.sha256(f"{api}\0{key}".encode()).hexdigest()[:40]
