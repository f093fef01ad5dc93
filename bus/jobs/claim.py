"""From a delivery to the right to run it. Protocol rules 3, 6, 10, 11, 13 and 20, from the worker's side."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import msgspec

from bus import wire
from bus.errors import Fenced, Interrupted, Invalid, Malformed
from bus.jobs.delivery import Delivery, stream_seq
from bus.jobs.entry import Entry, Position
from bus.jobs.log import Logs
from bus.subjects import JobKey, JobSubject, is_token, last_token, token
from bus.telemetry.logging import logger
from bus.transport.clock import BusClock
from bus.transport.jetstream import MESSAGE_ID

log = logger(__name__)

#: Deadlines of jobs that name none, seconds after acceptance.
DEFAULT_DEADLINE_S = {"interactive": 3600.0, "standard": 12 * 3600.0, "batch": 12 * 3600.0}
#: Deliveries without a lease after which a message is given up: nobody who can read it gets that far.
_MAX_BARE_DELIVERIES = 10
_TAKE_TRIES = 5
#: A job in which so many engine hosts died is given up, however many attempts it has left.
MAX_HOST_DEATHS = 2
#: Stands for a tenant that is no token, in DEAD.
_NOBODY = "_"


_GIVEN = re.compile(r"q[0-9]+")


class Identity(msgspec.Struct, frozen=True):
    """A worker process. `boot` tells two processes with one id apart."""

    worker: str
    boot: str


class Claim(msgspec.Struct, frozen=True):
    """A lease on a job that is to be run from `position`."""

    key: JobKey
    birth: wire.Birth
    lease_seq: int
    lease: wire.Lease
    position: Position
    #: Data of the latest checkpoint, if the log has one.
    checkpoint: bytes | None = None
    #: Whether nobody had taken it before, not even to hand it back.
    is_first: bool = False

    @property
    def job(self) -> wire.Job:
        return self.birth.job


def is_given_id(job_id: str) -> bool:
    """Whether it is of the form that a direct job without an id gets: a job that chose it would pass for another."""
    return _GIVEN.fullmatch(job_id) is not None


def read_job(subject: JobSubject, seq: int, payload: bytes) -> wire.Job:
    """The job of a message in JOBS: the subject is the authority, the body's copies must agree where present.

    Raises Malformed with what is wrong, field and value named.
    """
    job = wire.decode(wire.Job, payload)
    named = {"model": job.model, "version": job.version, "lane": job.lane, "tenant": job.tenant}
    for field, value in named.items():
        if value and value != getattr(subject, field):
            raise Malformed(f"{field}: the body says {value[:80]!r}, the subject {getattr(subject, field)!r}")
    try:
        job_id = token(job.id) if job.id else f"q{seq}"
    except ValueError as error:
        raise Malformed(f"id: {error}") from error
    if is_given_id(job_id) and job_id != f"q{seq}":
        raise Malformed(f"id: {job_id!r} is a name that the bus gives, to message {job_id[1:]} of its queue")
    return msgspec.structs.replace(
        job, id=job_id, model=subject.model, version=subject.version, lane=subject.lane, tenant=subject.tenant
    )


def with_deadline(job: wire.Job, now_s: float) -> wire.Job:
    """`job` with an `expires_at`, its own or its lane's default from `now_s` (Unix seconds) on."""
    if job.expires_at is not None:
        return job
    seconds = DEFAULT_DEADLINE_S.get(job.lane, DEFAULT_DEADLINE_S["standard"])
    return msgspec.structs.replace(job, expires_at=datetime.fromtimestamp(now_s, UTC) + timedelta(seconds=seconds))


def _attempt(old: wire.Lease | None, queue_seq: int) -> int:
    """Number of the attempt that replaces `old`: a hand-back costs none, nor does a lease of a surplus message."""
    if old is None:
        return 1
    is_surplus = stream_seq(old.ack) not in {queue_seq, None}
    return max(1, old.attempt if old.why == "handed_back" or is_surplus else old.attempt + 1)


class Claims:
    def __init__(
        self, logs: Logs, clock: BusClock, me: Identity, max_attempts: int, max_host_deaths: int = MAX_HOST_DEATHS
    ) -> None:
        self._logs, self._clock, self._me = logs, clock, me
        self._max_attempts, self._max_host_deaths = max_attempts, max_host_deaths

    def open(self, delivery: Delivery) -> wire.Job:
        """The delivered job, named. Raises Malformed: then `bury` the delivery."""
        try:
            subject = self._logs.subjects.parse_job(delivery.subject)
        except ValueError as error:
            raise Malformed(str(error)) from error
        return read_job(subject, delivery.seq, delivery.payload)

    async def claim(self, delivery: Delivery, job: wire.Job) -> Claim | None:
        """Take the lease, or settle the delivery in another way and return None.

        None: the message was surplus, its log has ended, it may not be tried again, or somebody was faster.
        Raises Unreachable; then the delivery comes again after ack_wait.
        """
        key = self._logs.subjects.job_key(job.tenant, job.id)
        if delivery.num_delivered == 1:
            lease = self._lease(delivery, attempt=1)
            taken, birth = await asyncio.gather(self._take(key, lease, 0), self._birth(key, job, delivery.seq))
            if taken is not None:
                # Nobody ever had a lease, so nobody ever appended: the tail is empty without being read.
                claim = Claim(key, birth, taken, lease, Position(), is_first=True)
                if birth.queue_seq == delivery.seq:
                    return claim
                await self._take(key, msgspec.structs.replace(lease, why="handed_back"), taken)
                self._drop(delivery, job)
                return None
        return await self._claim_again(delivery, key, job)

    async def _claim_again(self, delivery: Delivery, key: JobKey, job: wire.Job) -> Claim | None:
        birth = await self._birth(key, job, delivery.seq)
        if birth.queue_seq != delivery.seq:
            self._drop(delivery, job)
            return None
        for _ in range(_TAKE_TRIES):
            old = await self._logs.lease(key)
            if old is None and delivery.num_delivered >= _MAX_BARE_DELIVERIES:
                reason = f"delivered {delivery.num_delivered} times, and nobody could take it"
                await self.give_up(key, birth, wire.Lease(why="interrupted"), reason)
                delivery.ack()
                return None
            if old is not None and old[1].why in wire.ENDS:
                await self._logs.end(key, "cancelled", old[1].detail)  # finishes the announced ending, whatever it is
                delivery.ack()
                return None
            if old is not None and delivery.is_older_than(old[1].ack):
                log.info("job.stale", job=job.id, tenant=job.tenant, delivered=delivery.num_delivered)
                return None
            attempt = _attempt(old[1] if old else None, delivery.seq)
            spent = self.worn_out(old[1], attempt) if old is not None else None
            if old is not None and spent is not None:
                await self.give_up(key, birth, old[1], spent)
                delivery.ack()
                return None
            lease = self._lease(delivery, attempt, old[1] if old else None)
            taken = await self._take(key, lease, old[0] if old else 0)
            if taken is not None:
                return await self._from_tail(
                    delivery, Claim(key, birth, taken, lease, Position(), is_first=old is None)
                )
        log.info("job.contended", job=job.id, tenant=job.tenant)
        return None

    async def _from_tail(self, delivery: Delivery, claim: Claim) -> Claim | None:
        """Read where the log stands. The lease is held, so nobody can append any more."""
        tail = await self._logs.tail(claim.key)
        if tail is None:
            return claim
        if tail.is_end:
            delivery.ack()
            return None
        checkpoint = await self._checkpoint(tail.position)
        return msgspec.structs.replace(claim, position=tail.position, checkpoint=checkpoint)

    async def _checkpoint(self, position: Position) -> bytes | None:
        if not position.checkpoint_seq:
            return None
        stored = await self._logs.js.at(self._logs.subjects.replies_stream, position.checkpoint_seq)
        return wire.decode(wire.Checkpoint, Entry.stored(stored).payload).data if stored else None

    async def _birth(self, key: JobKey, job: wire.Job, queue_seq: int) -> wire.Birth:
        """The log's birth; given by us if the job was published directly or its gateway died."""
        found = await self._logs.birth(key)
        if found is not None:
            return found[1]
        now_s = self._clock.now()
        birth = wire.Birth(
            job=with_deadline(job, now_s), digest=wire.digest(job), queue_seq=queue_seq, accepted_at=now_s
        )
        return (await self._logs.create(key, birth))[1]

    async def _take(self, key: JobKey, lease: wire.Lease, expected_seq: int) -> int | None:
        try:
            return await self._logs.take(key, lease, expected_seq)
        except Fenced:
            return None

    def _lease(self, delivery: Delivery, attempt: int, old: wire.Lease | None = None) -> wire.Lease:
        return wire.Lease(
            why="running",
            worker=self._me.worker,
            boot=self._me.boot,
            ack=delivery.ack_subject,
            attempt=attempt,
            host_deaths=old.host_deaths if old else 0,
            traceback=old.traceback if old else "",
        )

    def _drop(self, delivery: Delivery, job: wire.Job) -> None:
        log.info("job.duplicate_removed", job=job.id, tenant=job.tenant, queue_seq=delivery.seq)
        delivery.ack()

    def worn_out(self, old: wire.Lease, attempt: int) -> str | None:
        """Why attempt number `attempt` must not be made after `old`; None if it may."""
        last = f"last on worker {old.worker!r}" + (f": {old.detail}" if old.detail else "")
        if attempt > self._max_attempts:
            return f"interrupted {old.attempt} times, the limit is {self._max_attempts}; {last}"
        if old.host_deaths >= self._max_host_deaths:
            return f"{old.host_deaths} engine hosts died in it, the limit is {self._max_host_deaths}; {last}"
        return None

    async def give_up(self, key: JobKey, birth: wire.Birth, old: wire.Lease, reason: str) -> None:
        """Put the job among the dead letters and end its log; `old` is the lease it had last.

        Safe to repeat. Only for who may take the lease: the holder that let go of it, or who was delivered the job.
        Acknowledging stays the caller's. Raises Unreachable.
        """
        job = birth.job
        subject = self._logs.subjects.job(job.model, job.version, job.lane, job.tenant)
        dead = wire.DeadJob(
            reason=reason,
            subject=subject,
            payload=wire.encode(job),
            attempts=old.attempt,
            worker=old.worker,
            host_deaths=old.host_deaths,
            traceback=old.traceback,
        )
        await self._bury(key.tenant, key.job, birth.queue_seq, dead)
        failed = wire.Failed(code=Interrupted.code, message=reason, worker=old.worker, attempt=old.attempt)
        await self._logs.end(key, "failed", reason, failed)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Put a message that can never be run where an operator finds it, tell whoever waits for it, and ack it."""
        tenant, job_id = last_token(delivery.subject), f"q{delivery.seq}"
        dead = wire.DeadJob(reason=reason, subject=delivery.subject, payload=delivery.payload)
        if is_token(tenant):
            await self._bury(tenant, job_id, delivery.seq, dead)
            await self._tell(self._logs.subjects.job_key(tenant, job_id), delivery.seq, reason)
        else:
            await self._bury(_NOBODY, job_id, delivery.seq, dead)  # no log can bear such a name
        delivery.ack()

    async def _tell(self, key: JobKey, queue_seq: int, reason: str) -> None:
        job = wire.Job(id=key.job, input="", tenant=key.tenant)
        birth = wire.Birth(job=job, digest="", queue_seq=queue_seq, accepted_at=self._clock.now())
        _, stands = await self._logs.create(key, birth)
        if stands.queue_seq == queue_seq:  # else the log is another job's, whose client chose this id
            await self._logs.end(key, "failed", reason, wire.Failed(code=Invalid.code, message=reason))

    async def _bury(self, tenant: str, job: str, queue_seq: int, dead: wire.DeadJob) -> None:
        log.warning("job.dead_lettered", job=job, tenant=tenant, reason=dead.reason)
        headers = {MESSAGE_ID: f"dead.{queue_seq}"}
        await self._logs.js.publish(self._logs.subjects.dead_job(tenant, job), wire.encode(dead), headers)
