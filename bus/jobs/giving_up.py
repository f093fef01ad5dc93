"""Giving up on a message of JOBS: it goes to the dead letters, and its log ends as failed. Protocol rule 11."""

from typing import Final

from bus import wire
from bus.errors import Interrupted, Invalid
from bus.jobs.delivery import Delivery
from bus.jobs.log import Logs
from bus.subjects import JobKey, is_token, last_token
from bus.telemetry.logging import logger
from bus.transport.clock import BusClock
from bus.transport.jetstream import MESSAGE_ID

log = logger(__name__)

#: In DEAD, in place of a tenant that is no token.
_NO_TENANT: Final = "_"


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

    async def give_up_message(self, delivery: Delivery, reason: str) -> None:
        """Dead-letter a message that can never run, end the log that its client may wait for, and acknowledge it.

        Safe to repeat. Raises Unreachable.
        """
        tenant, job_id = last_token(delivery.subject), f"q{delivery.seq}"
        dead = wire.DeadJob(reason=reason, subject=delivery.subject, payload=delivery.payload)
        if is_token(tenant):
            await self._store(tenant, job_id, delivery.seq, dead)
            await self._fail_unborn(self._logs.subjects.job_key(tenant, job_id), delivery.seq, reason)
        else:
            await self._store(_NO_TENANT, job_id, delivery.seq, dead)  # no log can have such a tenant
        delivery.ack()

    async def _fail_unborn(self, key: JobKey, queue_seq: int, reason: str) -> None:
        job = wire.Job(id=key.job, input="", tenant=key.tenant)
        birth = wire.Birth(job=job, digest="", queue_seq=queue_seq, accepted_at=self._clock.now())
        found = await self._logs.create(key, birth)
        if found.birth.queue_seq == queue_seq:  # else the log is another job's, whose client chose this id
            await self._logs.end(key, wire.End.FAILED, reason, wire.Failed(code=Invalid.code, message=reason))

    async def _store(self, tenant: str, job: str, queue_seq: int, dead: wire.DeadJob) -> None:
        log.warning("job.dead_lettered", job=job, tenant=tenant, reason=dead.reason)
        headers = {MESSAGE_ID: f"dead.{queue_seq}"}
        await self._logs.js.publish(self._logs.subjects.dead_job(tenant, job), wire.encode(dead), headers)
