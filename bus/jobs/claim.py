"""Turns a delivery into the right to run its job, and gives that right up: the worker's side of the bus protocol.

Rules 3, 6, 10, 11, 13 and 20.
"""

import asyncio
from typing import Final

import msgspec

from bus import wire
from bus.errors import BusError, Fenced, Full, Malformed, Unreachable
from bus.jobs.attempts import AttemptLimits, next_attempt
from bus.jobs.birth import new_birth
from bus.jobs.client import Bus
from bus.jobs.engine_state import EngineStates
from bus.jobs.entry import Position
from bus.jobs.giving_up import DeadLetterWriter
from bus.jobs.log import Logs, Writer
from bus.jobs.validate import read_job
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.clock import BusClock
from bus.transport.pull import Delivery, ack, give_back, keep_alive
from bus.wire import LeaseState

log = logger(__name__)

#: After this many deliveries without a lease the message goes to the dead letters: no worker was able to process it.
_MAX_BARE_DELIVERIES: Final = 10
#: Lease changes by other workers that one claim meets before it leaves the job to them.
_TAKE_TRIES: Final = 5
#: Characters of a traceback that a lease carries.
_MAX_TRACE_CHARS: Final = 4096


class Identity(msgspec.Struct, frozen=True):
    """A worker process."""

    #: The worker's id.
    worker: str
    #: Random for each process: distinguishes two processes with one id.
    boot: str


class Claim(msgspec.Struct, frozen=True):
    """A lease on a job that is to be run from `position`."""

    key: JobKey
    birth: wire.Birth
    #: The fence of every append.
    lease_seq: int
    lease: wire.Lease
    position: Position
    #: Data of the latest checkpoint that does not grow, if the log has one.
    checkpoint: bytes | None = None
    #: Data of those since then that grow, oldest first. Some MB: cleared once the engine host has them.
    increments: list[bytes] = []
    #: Whether no worker ever had a lease on it before, released ones included.
    is_first: bool = False

    @property
    def job(self) -> wire.Job:
        """The job, complete."""
        return self.birth.job


class Claims:
    """Claims deliveries for one worker."""

    def __init__(self, logs: Logs, clock: BusClock, me: Identity, limits: AttemptLimits) -> None:
        self._logs = logs
        self._clock = clock
        self._me = me
        self.limits = limits
        self.dead_letters = DeadLetterWriter(logs, clock)
        self._states = EngineStates(logs)

    def open(self, delivery: Delivery) -> wire.Job:
        """The delivered job, its id included. Raises Malformed and Invalid: then dead-letter the message."""
        try:
            subject = self._logs.subjects.parse_job(delivery.subject)
        except ValueError as error:
            raise Malformed(str(error)) from error
        return read_job(subject, delivery.seq, delivery.payload, self._clock.now())

    async def claim(self, delivery: Delivery, job: wire.Job) -> Claim | None:
        """Take the lease, or settle the delivery in another way and return None.

        None: the message was surplus, its log has ended, it may not be tried again, or another worker was faster.
        Cancelling leaves it open whether the lease was taken; the job then goes on after ack_wait. Raises Unreachable;
        then the delivery comes again after ack_wait.
        """
        key = self._logs.subjects.job_key(job.tenant, job.id)
        if delivery.num_delivered > 1:
            return await self._claim_again(delivery, key, job)
        lease = self._lease(delivery, 1, None)
        seq, birth = await asyncio.gather(self._take(key, lease, 0), self._birth(key, job, delivery.seq))
        if seq is None:
            return await self._claim_again(delivery, key, job)
        if birth.queue_seq != delivery.seq:
            await self._take(key, msgspec.structs.replace(lease, state=LeaseState.HANDED_BACK), seq)
            self._drop(delivery, job)
            return None
        # There never was a lease, so nothing was ever appended: the tail is empty without being read.
        return Claim(key, birth, seq, lease, Position(), is_first=True)

    async def _claim_again(self, delivery: Delivery, key: JobKey, job: wire.Job) -> Claim | None:
        birth = await self._birth(key, job, delivery.seq)
        if birth.queue_seq != delivery.seq:
            self._drop(delivery, job)
            return None
        for _ in range(_TAKE_TRIES):
            stored = await self._logs.lease(key)
            old_seq, old = stored if stored is not None else (0, None)
            if old is not None and old.state in wire.ENDS:
                await self._logs.end(key, wire.End.CANCELLED, old.detail)  # finishes the announced ending, of any kind
                delivery.ack()
                return None
            if old is not None and delivery.is_older_than(old.ack):
                log.info("job.stale", job=job.id, tenant=job.tenant, delivered=delivery.num_delivered)
                return None
            attempt = next_attempt(old, delivery.seq)
            reason = self._exhausted(delivery, old, attempt)
            if reason is not None:
                last = old or wire.Lease(state=LeaseState.INTERRUPTED)
                await self.dead_letters.give_up_job(key, birth, last, reason)
                delivery.ack()
                return None
            lease = self._lease(delivery, attempt, old)
            seq = await self._take(key, lease, old_seq)
            if seq is not None:
                claim = Claim(key, birth, seq, lease, Position(), is_first=old is None)
                return await self._from_tail(delivery, claim)
        log.info("job.contended", job=job.id, tenant=job.tenant)
        return None

    def _exhausted(self, delivery: Delivery, old: wire.Lease | None, attempt: int) -> str | None:
        """Why the job must be given up; None if it may be tried."""
        if old is not None:
            return self.limits.exhausted(old, attempt)
        if delivery.num_delivered < _MAX_BARE_DELIVERIES:
            return None
        return f"delivered {delivery.num_delivered} times without a lease, the limit is {_MAX_BARE_DELIVERIES}"

    async def _from_tail(self, delivery: Delivery, claim: Claim) -> Claim | None:
        """Read where the log stands. The lease is held, so no other worker can append any more."""
        tail = await self._logs.tail(claim.key)
        if tail is None:
            return claim
        if tail.is_end:
            delivery.ack()
            return None
        state = await self._states.read(claim.key, tail.position, delivery.keep_alive)
        return msgspec.structs.replace(
            claim, position=state.position, checkpoint=state.checkpoint, increments=state.increments
        )

    async def _birth(self, key: JobKey, job: wire.Job, queue_seq: int) -> wire.Birth:
        """The log's birth. Written here if the job was published without a gateway, or its gateway died."""
        found = await self._logs.birth(key)
        if found is None:
            found = await self._logs.create(key, new_birth(job, queue_seq, self._clock.now()))
        return found.birth

    async def _take(self, key: JobKey, lease: wire.Lease, expected_seq: int) -> int | None:
        try:
            return await self._logs.take(key, lease, expected_seq)
        except Fenced:
            return None

    def _lease(self, delivery: Delivery, attempt: int, old: wire.Lease | None) -> wire.Lease:
        return wire.Lease(
            state=LeaseState.RUNNING,
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


class JobLease:
    """The lease of a claimed job: kept alive while the engine works, then settled once by `finish`, `end` or `release`.

    Each of the three returns the outcome's name for the log line.
    """

    def __init__(self, bus: Bus, claims: Claims, claim: Claim, writer: Writer) -> None:
        self._bus = bus
        self._claims = claims
        self._claim = claim
        self._writer = writer
        self._ack_subject = claim.lease.ack
        #: Held while the lease is written again: until its new sequence is known, it looks as if it were replaced.
        self._renewing = asyncio.Lock()

    async def read(self) -> tuple[bool, wire.Lease | None]:
        """Whether the lease is still this worker's, and the lease as it stands. Raises Unreachable."""
        async with self._renewing:
            stored = await self._bus.logs.lease(self._claim.key)
            if stored is None:
                return False, None
            return stored.seq == self._writer.lease_seq, stored.lease

    async def ensure_held(self) -> None:
        """Raises Fenced if another process holds the lease, or it is gone."""
        try:
            is_held, _ = await self.read()
        except Unreachable as error:
            log.warning("job.lease_read_failed", error=str(error))  # the next look tries again
            return
        if not is_held:
            raise Fenced(f"{self._claim.key.lease}: sequence {self._writer.lease_seq} was replaced")

    async def show_waiting(self, waiting_for: str) -> None:
        """Write the lease again with `waiting_for`; the fence moves with it. In a full stream it stays as it is.

        Cancelling leaves it open whether the lease was written. Raises Fenced, Unreachable.
        """
        async with self._renewing:
            try:
                await self._writer.renew(waiting_for, self._ack_subject)
            except Full as error:
                log.warning("job.waiting_not_shown", error=str(error))

    def keep_alive(self) -> None:
        """Restart the ack_wait countdown of the job's message."""
        keep_alive(self._bus.connection, self._ack_subject)

    def redelivered(self, ack_subject: str) -> None:
        """The job's message was delivered to this worker again: acknowledge that delivery from now on (rule 10)."""
        self._ack_subject = ack_subject

    async def finish(self, kind: wire.End, payload: object) -> str:
        """Append the terminal entry and acknowledge the message. Raises Fenced, Unreachable; Full only for `done`."""
        try:
            await self._writer.end(kind, payload)
        except Full:
            if kind == wire.End.DONE:
                raise
            await self._bus.logs.end(self._claim.key, kind, "the stream was full", payload)  # which makes room
        ack(self._bus.connection, self._ack_subject)
        return kind

    async def end(self, kind: wire.End, why: str) -> str:
        """End the log as any process may: its deadline passed, or its last listener left."""
        try:
            return await self._bus.logs.end(self._claim.key, kind, why)
        except BusError as error:
            log.error("job.end_failed", error=str(error))
            return "bus_unreachable"

    async def release(
        self, state: wire.LeaseState, detail: str, *, host_died: bool = False, traceback: str = ""
    ) -> str:
        """Give up the lease, then NAK the message (rule 11). The engine is stopped, the last append acknowledged.

        A job that may not be tried again is not offered again: it ends here, among the dead letters.
        """
        try:
            lease = await self._writer.release(
                state, detail, host_died=host_died, traceback=traceback[:_MAX_TRACE_CHARS]
            )
            is_free = state == wire.LeaseState.HANDED_BACK
            reason = None if is_free else self._claims.limits.exhausted(lease, lease.attempt + 1)
            if reason is not None:
                await self._claims.dead_letters.give_up_job(self._claim.key, self._claim.birth, lease, reason)
                ack(self._bus.connection, self._ack_subject)
                return "failed"
        except (Fenced, Unreachable):
            return "fenced"
        except BusError as error:
            log.error("job.end_failed", error=str(error))
        give_back(self._bus.connection, self._ack_subject)
        return state
