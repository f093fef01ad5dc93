"""Giving up on a message of JOBS: it goes to the dead letters, and its log ends as failed. Protocol rule 11."""

import traceback
from typing import Final

import msgspec

from bus import wire
from bus.errors import Interrupted, Invalid, Malformed
from bus.jobs.log import Logs
from bus.subjects import JobKey, is_token, last_token
from bus.telemetry.logging import logger
from bus.transport.clock import BusClock
from bus.transport.jetstream import MESSAGE_ID
from bus.transport.pull import Delivery

log = logger(__name__)

#: In DEAD, in place of a tenant that is no token.
_NO_TENANT: Final = "_"
_MAX_TRACE_CHARS: Final = 4096


class Refusal(msgspec.Struct, frozen=True):
    """Why a message of JOBS is given up before it made audio."""

    #: For people.
    reason: str
    #: Dotted name of the field at fault; "" if none is.
    path: str = ""
    #: One of `errors.JobError.by_code`.
    code: str = Invalid.code
    #: Where our own code raised; "" if it did not.
    traceback: str = ""

    @classmethod
    def of(cls, error: Exception) -> "Refusal":
        """For a message that failed validation, or one on which the code of a worker raised."""
        if isinstance(error, Malformed | Invalid):
            return cls(_printable(str(error)), getattr(error, "path", ""), getattr(error, "code", Invalid.code))
        reason = _printable(f"the worker failed on it: {type(error).__name__}: {error}")
        where = _printable("".join(traceback.format_exception(error))[-_MAX_TRACE_CHARS:])
        return cls(reason, code=Interrupted.code, traceback=where)


class DeadLetterWriter:
    """Writes dead letters for one worker. `bus.jobs.dead_letters` reads them."""

    def __init__(self, logs: Logs, clock: BusClock) -> None:
        self._logs = logs
        self._clock = clock

    async def give_up_job(self, key: JobKey, birth: wire.Birth, old: wire.Lease, reason: str) -> None:
        """Dead-letter a job and end its log as failed; `old` is the lease it had last.

        Safe to repeat. Only for a process that may take the lease: the holder that released it, or the worker that was
        delivered the job. The caller acknowledges the delivery. Raises Unreachable.
        """
        job = birth.job
        dead = wire.DeadJob(
            reason=reason,
            subject=self._logs.subjects.job(job.model, job.version, job.lane, job.tenant),
            payload=wire.encode(job),
            attempts=old.attempt,
            worker=old.worker,
            host_deaths=old.host_deaths,
            traceback=old.traceback,
        )
        await self._store(key.tenant, key.job, birth.queue_seq, dead)
        failed = wire.Failed(code=Interrupted.code, message=reason, worker=old.worker, attempt=old.attempt)
        await self._logs.end(key, wire.End.FAILED, reason, failed)

    async def give_up_message(self, delivery: Delivery, refusal: Refusal, job_id: str) -> None:
        """Dead-letter a message that can never run, end the log that its publisher reads, and acknowledge it.

        That is the log of `job_id`, unless it belongs to another message: then the log of the id that the bus assigns.
        Safe to repeat. Raises Full, Unreachable.
        """
        tenant = last_token(delivery.subject)
        dead = wire.DeadJob(
            reason=refusal.reason, subject=delivery.subject, payload=delivery.payload, traceback=refusal.traceback
        )
        if not is_token(tenant):
            await self._store(_NO_TENANT, f"q{delivery.seq}", delivery.seq, dead)  # no log can have such a tenant
            delivery.ack()
            return
        key = self._logs.subjects.job_key(tenant, job_id)
        is_own = await self._has_log(key, delivery.seq)
        if not is_own and job_id != f"q{delivery.seq}":
            key = self._logs.subjects.job_key(tenant, f"q{delivery.seq}")
            is_own = await self._has_log(key, delivery.seq)
        await self._store(tenant, key.job, delivery.seq, dead)
        if is_own:
            failed = wire.Failed(code=refusal.code, message=refusal.reason, path=refusal.path)
            await self._logs.end(key, wire.End.FAILED, refusal.reason, failed)
        delivery.ack()

    async def _has_log(self, key: JobKey, queue_seq: int) -> bool:
        """Whether the log of `key` is the one of message `queue_seq`. It is written if there is none."""
        job = wire.Job(id=key.job, input="", tenant=key.tenant)
        birth = wire.Birth(job=job, digest="", queue_seq=queue_seq, accepted_at=self._clock.now())
        try:
            found = await self._logs.create(key, birth)
        except Malformed:
            return False  # a birth stands that cannot be read, so nothing can be ended
        return found.birth.queue_seq == queue_seq

    async def _store(self, tenant: str, job: str, queue_seq: int, dead: wire.DeadJob) -> None:
        log.warning("job.dead_lettered", job=job, tenant=tenant, reason=dead.reason)
        headers = {MESSAGE_ID: f"dead.{queue_seq}"}
        await self._logs.js.publish(self._logs.subjects.dead_job(tenant, job), wire.encode(dead), headers)


def _printable(text: str) -> str:
    """`text` as UTF-8 can hold it, shortened."""
    return text.encode(errors="backslashreplace").decode()[:_MAX_TRACE_CHARS]
