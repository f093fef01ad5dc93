"""Delivers the webhook events of jobs: those of one job in order, each at least once, until delivered or given up.

Any gateway delivers, whichever accepted the job. The events are derived from the job's log, which is read often at
first, and later as often as the job's age suggests.
"""

import asyncio
import hashlib
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from bus import retry, wire
from bus.errors import BusError, Gone, JobError, Malformed, NotFound
from bus.jobs.client import Bus
from bus.jobs.status import Status
from bus.options import MAX_DEADLINE_S
from bus.telemetry.logging import logger
from bus.transport.jetstream import MESSAGE_ID
from bus.webhook import EventType, HookProgress, Webhook
from gateway.jobs.service import Jobs
from gateway.jobs.view import view, when
from gateway.webhooks.concurrency import MAX_TRIES, HostLimit, TenantLimit
from gateway.webhooks.queue import PendingWebhook, WebhookQueue
from gateway.webhooks.sender import NotDelivered, Sender, signature_headers

log = logger(__name__)

#: Jobs whose webhooks one gateway processes at a time: beside those that are tried, some whose turn it is to be looked
#: at.
_NUM_SLOTS: Final = MAX_TRIES + 32
#: Jobs of one pull.
_NUM_PULLED: Final = 32
#: Bounds of the pause between two reads of a job's log, and the share of the job's age that it lasts: an event is
#: noticed at most that much later.
_MIN_PAUSE_S: Final = 0.25
_MAX_PAUSE_S: Final = 60.0
_PAUSE_SHARE: Final = 0.1
#: Longest pause between two tries of one event.
_MAX_RETRY_S: Final = 3600.0
#: Pause after the bus was unreachable.
_OUTAGE_PAUSE_S: Final = 2.0
#: Errors of a job's own data: reading it again cannot help.
_PERMANENT: Final = (Malformed, JobError)


def event_id(root: str, birth: wire.Birth, event: EventType) -> str:
    """The id of one event of one job, equal for every try, so that a receiver can detect duplicates."""
    job = birth.job
    named = f"{root}\0{job.tenant}\0{job.id}\0{birth.queue_seq}\0{event}"
    return f"evt_{hashlib.sha256(named.encode()).hexdigest()[:32]}"


def webhooks_id(root: str, webhook: PendingWebhook) -> str:
    """The id of the dead letter that stands for all pending events of a job."""
    named = f"{root}\0{webhook.key.tenant}\0{webhook.key.job}\0{webhook.progress.since}"
    return f"hook_{hashlib.sha256(named.encode()).hexdigest()[:32]}"


def events_of(status: Status) -> list[EventType]:
    """The events that have happened to a job, in order. Pure."""
    events: list[EventType] = ["accepted"]
    if status.position.block or (status.lease is not None and status.lease.worker):
        events.append("started")
    if status.is_ended:
        events.append(status.state)  # type: ignore[arg-type]  # is_ended says that it is an End
    return events


class WebhookDelivery:
    """Pulls jobs with pending events from the queue, and delivers one event of each at a time."""

    def __init__(self, jobs: Jobs, queue: WebhookQueue, sender: Sender, *, max_tries: int, retry_s: float) -> None:
        """`max_tries`: of one event, then it is dead-lettered. `retry_s`: pause before the second try; it doubles."""
        self._jobs = jobs
        self._bus = jobs.bus
        self._queue = queue
        self._sender = sender
        self._max_tries = max_tries
        self._retry_s = retry_s
        self._hosts = HostLimit()
        self._tenants = TenantLimit()
        self._slots = asyncio.Semaphore(_NUM_SLOTS)

    async def run(self) -> None:
        """Deliver until cancelled; messages that are not processed then are returned to the queue."""
        async with self._sender, asyncio.TaskGroup() as tasks:
            while True:
                async with self._slots:
                    webhooks = await self._pull()
                while webhooks:
                    try:
                        await self._slots.acquire()
                    except asyncio.CancelledError:
                        for webhook in webhooks:
                            webhook.defer(0)
                        raise
                    webhook = webhooks.pop(0)
                    tasks.create_task(self._process(webhook), name=f"webhook {webhook.key.job}")

    async def _pull(self) -> list[PendingWebhook]:
        try:
            return await self._queue.pull(_NUM_PULLED)
        except BusError as error:
            log.warning("webhook.poll_failed", error=str(error))
            await asyncio.sleep(_OUTAGE_PAUSE_S)
            return []

    async def _process(self, webhook: PendingWebhook) -> None:
        """Every way out of here removes the message, replaces it or returns it to the queue."""
        context = {"job": webhook.key.job, "tenant": webhook.key.tenant}
        try:
            try:
                await self._deliver_next(webhook)
            except Exception as error:  # noqa: BLE001  # without a bound on its tries it would be tried for ever
                await self._crashed(webhook, error)
        except asyncio.CancelledError:
            webhook.defer(0)  # otherwise it is redelivered after ack_wait only
            raise
        except BusError as error:
            log.warning("webhook.deferred", error=str(error), **context)
            webhook.defer(_OUTAGE_PAUSE_S)
        except Exception:
            log.exception("webhook.crashed", tries=webhook.progress.tries, again_in_s=_MAX_PAUSE_S, **context)
            webhook.defer(_MAX_PAUSE_S)
        finally:
            self._slots.release()

    async def _crashed(self, webhook: PendingWebhook, error: Exception) -> None:
        """Count an unexpected exception as a failed try; after the last one the message is dead-lettered.

        Raises `error` itself if the bus was unreachable, which is no try, and BusError if it is now.
        """
        if isinstance(error, BusError) and not isinstance(error, _PERMANENT):
            raise error
        progress, tries = webhook.progress, webhook.progress.tries + 1
        context = {"job": webhook.key.job, "tenant": webhook.key.tenant}
        if tries < self._max_tries:
            again_s = retry.delay_s(tries - 1, self._retry_s, _MAX_RETRY_S)
            log.error("webhook.crashed", tries=tries, again_in_s=round(again_s, 2), exc_info=error, **context)
            due_at = self._bus.clock.now() + again_s
            await webhook.advance(msgspec.structs.replace(progress, tries=tries, due_at=due_at))
            return
        why = f"{type(error).__name__}: {error}"
        letter_id = webhooks_id(self._bus.subjects.root, webhook)
        reason = f"webhook: delivering for job {webhook.key.job!r} failed ({why}) in {tries} tries"
        await _dead_letter(self._bus, webhook, letter_id, reason, wire.encode(progress))
        log.error("webhook.dead_lettered", event_id=letter_id, error=why, tries=tries, exc_info=error, **context)
        webhook.finish()

    async def _deliver_next(self, webhook: PendingWebhook) -> None:
        """Deliver the next event that has happened, if there is one. Raises BusError."""
        now_s, progress = self._bus.clock.now(), webhook.progress
        # No gateway sets a later time: one that is further away was written by something else.
        early_s: float | None = progress.due_at - now_s
        if not 0 < progress.due_at - now_s <= _MAX_RETRY_S:
            # Before anything is read: of a tenant with thousands of them, each comes by again and again.
            early_s = self._tenants.wait_s(webhook.owner)
        if early_s is not None:
            webhook.defer(early_s)
            return
        try:
            status = await self._jobs.find(webhook.key)
        except (NotFound, Gone) as error:
            self._log_missing(webhook, now_s - progress.since, error)
            return
        receiver = status.birth.job.client.webhook
        wanted = () if receiver is None else receiver.events
        pending = [event for event in events_of(status) if event in wanted and event not in progress.settled]
        if receiver is not None and pending:
            await self._deliver(webhook, status, receiver, pending)
        elif receiver is None or status.is_ended:
            webhook.finish()
        else:
            webhook.defer(_pause_s(now_s - progress.since))

    def _log_missing(self, webhook: PendingWebhook, age_s: float, error: BusError) -> None:
        """Wait for the birth of a job whose gateway died before: its worker writes it. Or the log has been removed."""
        if isinstance(error, NotFound) and age_s < MAX_DEADLINE_S:
            webhook.defer(_pause_s(age_s))
            return
        log.warning("webhook.log_gone", job=webhook.key.job, tenant=webhook.key.tenant, error=str(error))
        webhook.finish()

    async def _deliver(
        self, webhook: PendingWebhook, status: Status, receiver: Webhook, pending: list[EventType]
    ) -> None:
        """Deliver the first of `pending`; later, if too many tries at this host, or of this tenant, are in progress."""
        host, owner = urlsplit(receiver.url).netloc.lower(), webhook.owner
        if (wait_s := self._hosts.wait_s(host) or self._tenants.wait_s(owner)) is not None:
            webhook.defer(wait_s)
            return
        progress, event, now_s = webhook.progress, pending[0], self._bus.clock.now()
        letter_id = event_id(self._bus.subjects.root, status.birth, event)
        context = {"job": webhook.key.job, "tenant": webhook.key.tenant, "event_type": event, "event_id": letter_id}
        try:
            # Counted before the first wait: otherwise more would pass than the limit allows.
            with self._hosts.trying(host), self._tenants.trying(owner):
                body = msgspec.json.encode(await _body(self._bus, status, event))
                await self._sender.post(receiver, signature_headers(receiver, letter_id, int(now_s), body), body, owner)
        except NotDelivered as error:
            tries = progress.tries + 1
            if not error.is_final and tries < self._max_tries:
                again_s = retry.delay_s(tries - 1, self._retry_s, _MAX_RETRY_S)
                log.info("webhook.failed", error=str(error), tries=tries, again_in_s=round(again_s, 2), **context)
                await webhook.advance(msgspec.structs.replace(progress, tries=tries, due_at=now_s + again_s))
                return
            reason = f"webhook: {event} of job {webhook.key.job!r} was not delivered ({error}) in {tries} tries"
            await _dead_letter(self._bus, webhook, letter_id, reason, body)
            log.warning("webhook.dead_lettered", error=str(error), tries=tries, **context)
        else:
            log.debug("webhook.sent", **context)
        if status.is_ended and len(pending) == 1:
            webhook.finish()
        else:
            await webhook.advance(HookProgress(since=progress.since, settled=(*progress.settled, event)))


async def _body(bus: Bus, status: Status, event: EventType) -> dict[str, Any]:
    data = await view(bus, status)
    return {"type": f"job.{event}", "timestamp": when(bus.clock.now()), "data": data}


async def _dead_letter(bus: Bus, webhook: PendingWebhook, letter_id: str, reason: str, body: bytes) -> None:
    """Publish to the dead letters under an id of its own: the job itself may have a dead letter too."""
    key, subjects = webhook.key, bus.subjects
    dead = wire.DeadJob(reason=reason, subject=subjects.hook(key.tenant, key.job), payload=body)
    await bus.js.publish(subjects.dead_job(key.tenant, letter_id), wire.encode(dead), {MESSAGE_ID: letter_id})


def _pause_s(age_s: float) -> float:
    return min(_MAX_PAUSE_S, max(_MIN_PAUSE_S, age_s * _PAUSE_SHARE))
