"""Cancelling over the bus: `<root>.cancel.<tenant>.<job>` is a question that any gateway answers."""

import asyncio

import msgspec

from bus import wire
from bus.errors import BusError, JobError, Unreachable
from bus.jobs.client import Bus
from bus.subjects import parse_job_of
from bus.telemetry.logging import logger
from bus.transport.parser import Message
from bus.transport.replies import is_outside_inbox
from gateway.access.authenticator import Authenticator

log = logger(__name__)

_QUEUE = "gateways"
_CLIENT_ERROR, _SERVER_ERROR = "400", "500"


class Cancels:
    def __init__(self, bus: Bus, authenticator: Authenticator, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._authenticator = authenticator
        self._tasks = tasks

    async def run(self) -> None:
        """Answer until cancelled."""
        subscription = self._bus.connection.subscribe(self._bus.subjects.all_cancels, self._asked, queue=_QUEUE)
        try:
            await asyncio.Event().wait()
        finally:
            subscription.close()

    def _asked(self, message: Message) -> None:
        self._tasks.create_task(self._cancel(message), name="cancel")

    async def _cancel(self, message: Message) -> None:
        tenant, job = parse_job_of(message.subject)
        try:
            # The subject says who asks, as the account allows it; a key that came along must say the same.
            self._authenticator.authenticate_message(message.header("Authorization") or "", tenant)
            key = self._bus.subjects.job_key(tenant, job)
            ended = await self._bus.logs.end(key, wire.End.CANCELLED, "cancelled over the bus")
        except (BusError, ValueError) as error:
            self._refuse(message, error)
            return
        log.info("job.cancelled", job=job, tenant=tenant, ended=ended)
        if is_outside_inbox(message.reply):
            self._bus.connection.publish(message.reply, msgspec.json.encode({"id": job, "state": ended}))

    def _refuse(self, message: Message, error: Exception) -> None:
        is_theirs = isinstance(error, JobError | ValueError)
        code = error.code if isinstance(error, JobError) else "invalid" if is_theirs else "bus_unreachable"
        if not is_theirs and not isinstance(error, Unreachable):
            log.error("cancel.failed", subject=message.subject, error=f"{type(error).__name__}: {error}")
        if is_outside_inbox(message.reply):
            headers = {
                "Nats-Service-Error": str(error).replace("\n", " ")[:500],
                "Nats-Service-Error-Code": _CLIENT_ERROR if is_theirs else _SERVER_ERROR,
            }
            body = msgspec.json.encode({"code": code, "detail": str(error)})
            self._bus.connection.publish(message.reply, body, headers=headers)
