"""Cancelling a job over NATS: a request on `<root>.cancel.<tenant>.<job>`, answered by one of the gateways."""

import asyncio
from typing import Final

import msgspec

from bus import wire
from bus.errors import BusError, Invalid
from bus.jobs.client import Bus
from bus.subjects import parse_job_of
from bus.telemetry.logging import logger
from bus.transport.parser import Message
from bus.transport.replies import CallerInboxes
from gateway.access.authenticator import Authenticator
from gateway.http.problems import describe, is_expected
from gateway.nats.errors import error_headers

log = logger(__name__)

_QUEUE: Final = "gateways"


class Cancels:
    """Ends the jobs that requests name, and answers each request with the state that its job ended in."""

    def __init__(self, bus: Bus, authenticator: Authenticator, tasks: asyncio.TaskGroup) -> None:
        """`tasks` outlives every request."""
        self._bus = bus
        self._inboxes = CallerInboxes(bus.settings.nats)
        self._authenticator = authenticator
        self._tasks = tasks

    async def run(self) -> None:
        """Answer requests until cancelled."""
        subscription = self._bus.connection.subscribe(self._bus.subjects.all_cancels, self._received, queue=_QUEUE)
        try:
            await asyncio.Event().wait()
        finally:
            subscription.close()

    def _received(self, message: Message) -> None:
        self._tasks.create_task(self._cancel(message), name="cancel")

    async def _cancel(self, message: Message) -> None:
        tenant, job = parse_job_of(message.subject)
        try:
            # The NATS account permits the subject, which names the tenant; a key in the headers must be of that tenant.
            self._authenticator.authenticate_message(message.header("Authorization") or "", tenant)
            key = self._bus.subjects.job_key(tenant, job)
            ended = await self._bus.logs.end(key, wire.End.CANCELLED, "cancelled over the bus")
        except ValueError as error:  # the subject names no job
            self._refuse(message, tenant, Invalid(str(error)))
            return
        except BusError as error:
            self._refuse(message, tenant, error)
            return
        log.info("job.cancelled", job=job, tenant=tenant, ended=ended)
        self._reply(message, tenant, {"id": job, "state": ended})

    def _refuse(self, message: Message, tenant: str, error: BusError) -> None:
        problem = describe(error)
        if not is_expected(error):
            log.error("cancel.failed", subject=message.subject, error=f"{type(error).__name__}: {error}")
        # The answers of this subject distinguish only a fault of the request from one of ours.
        headers = error_headers(problem, 400 if problem.status < 500 else 500)
        self._reply(message, tenant, {"code": problem.code, "detail": problem.detail}, headers)

    def _reply(
        self, message: Message, tenant: str, body: dict[str, str], headers: dict[str, str] | None = None
    ) -> None:
        if self._inboxes.allow(message.reply, tenant):
            self._bus.connection.publish(message.reply, msgspec.json.encode(body), headers=headers)
