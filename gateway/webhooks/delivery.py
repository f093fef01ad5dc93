"""Telling others what becomes of their jobs: each event in its order, at least once, until it is known or given up.

Any gateway tells, whichever accepted the job. When there is something to be told is read off the job's log, at first
often, later as often as its age suggests.
"""

import asyncio
import hashlib
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from bus import retry, wire
from bus.errors import BusError, Gone, JobError, Malformed, NotFound
from bus.jobs.status import Status
from bus.telemetry.logging import logger
from bus.transport.jetstream import MESSAGE_ID
from bus.webhook import EventType, HookProgress, Webhook
from gateway.jobs.service import Jobs
from gateway.jobs.view import view, when
from gateway.settings import GatewaySettings
from gateway.webhooks.concurrency import Receivers
from gateway.webhooks.queue import Hook, Hooks
from gateway.webhooks.sender import NotDelivered, Sender, signed

log = logger(__name__)

#: Hooks that one gateway looks at or sends together.
_AT_ONCE: Final = 64
_MIN_PAUSE_S: Final = 0.25
_MAX_PAUSE_S: Final = 60.0
#: Of a job's age: so much later than an event, at most, it is noticed.
_PAUSE_SHARE: Final = 0.1
_MAX_RETRY_S: Final = 3600.0
#: After the bus could not be asked.
_AGAIN_S: Final = 2.0
#: What the bus has that will not read better next time, unlike a bus that cannot be asked.
_LASTING: Final = (Malformed, JobError)


def event_id(root: str, birth: wire.Birth, event: EventType) -> str:
    """Equal for every try to tell one event of one job, so that whoever is told twice can know."""
    job = birth.job
    named = f"{root}\0{job.tenant}\0{job.id}\0{birth.queue_seq}\0{event}"
    return f"evt_{hashlib.sha256(named.encode()).hexdigest()[:32]}"


def hook_id(root: str, hook: Hook) -> str:
    """What the whole telling of a job is called in the dead letters."""
    named = f"{root}\0{hook.name.tenant}\0{hook.name.job}\0{hook.due.since}"
    return f"hook_{hashlib.sha256(named.encode()).hexdigest()[:32]}"


def come(found: Status) -> list[EventType]:
    """What has happened to a job, in order. Pure."""
    events: list[EventType] = ["accepted"]
    if found.position.block or (found.lease is not None and found.lease.worker):
        events.append("started")
    if found.is_ended:
        events.append(found.state)  # type: ignore[arg-type]  # is_ended says that it is an End
    return events


class Webhooks:
    def __init__(self, jobs: Jobs, hooks: Hooks, settings: GatewaySettings) -> None:
        self._jobs = jobs
        self._hooks = hooks
        self._settings = settings
        self._bus = jobs.bus
        self._sender = Sender(allow_private=settings.webhook_private)
        self._receivers = Receivers()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Tell until cancelled; what is not finished then, another gateway does."""
        async with self._sender, asyncio.TaskGroup() as tasks:
            while True:
                async with self._room:
                    hooks = await self._next()
                while hooks:
                    try:
                        await self._room.acquire()
                    except asyncio.CancelledError:
                        for hook in hooks:
                            hook.later(0)
                        raise
                    hook = hooks.pop(0)
                    tasks.create_task(self._handle(hook), name=f"webhook {hook.name.job}")

    async def _next(self) -> list[Hook]:
        try:
            return await self._hooks.pull(_AT_ONCE // 2)
        except BusError as error:
            log.warning("webhook.poll_failed", error=str(error))
            await asyncio.sleep(_AGAIN_S)
            return []

    async def _handle(self, hook: Hook) -> None:
        """Every way out of here settles the message, or gives it back with a pause."""
        context = {"job": hook.name.job, "tenant": hook.name.tenant}
        try:
            try:
                await self._tell(hook)
            except Exception as error:  # noqa: BLE001  # whatever it is, it must not tell of one job for ever
                await self._broke(hook, error)
        except asyncio.CancelledError:
            hook.later(0)  # another gateway need not wait for ack_wait
            raise
        except BusError as error:
            log.warning("webhook.deferred", error=str(error), **context)
            hook.later(_AGAIN_S)
        except Exception:
            log.exception("webhook.crashed", tries=hook.due.tries, again_in_s=_MAX_PAUSE_S, **context)
            hook.later(_MAX_PAUSE_S)
        finally:
            self._room.release()

    async def _broke(self, hook: Hook, error: Exception) -> None:
        """What nobody foresaw is a try like any other; after the last one the dead letters have the message.

        Raises `error` itself if the bus could not be asked, which costs no try, and BusError for the same reason.
        """
        if isinstance(error, BusError) and not isinstance(error, _LASTING):
            raise error
        due, context = hook.due, {"job": hook.name.job, "tenant": hook.name.tenant}
        tries, why = due.tries + 1, f"{type(error).__name__}: {error}"
        if tries < self._settings.webhook_max_tries:
            again_s = retry.delay_s(tries - 1, self._settings.webhook_retry_s, _MAX_RETRY_S)
            log.error("webhook.crashed", tries=tries, again_in_s=round(again_s, 2), exc_info=error, **context)
            await hook.step(msgspec.structs.replace(due, tries=tries, due_at=self._bus.clock.now() + again_s))
            return
        told = hook_id(self._bus.subjects.root, hook)
        reason = f"webhook: telling of job {hook.name.job!r} broke ({why}) in {tries} tries"
        await self._bury(hook, told, reason, wire.encode(due))
        log.error("webhook.dead_lettered", event_id=told, error=why, tries=tries, exc_info=error, **context)
        hook.settle()

    async def _tell(self, hook: Hook) -> None:
        """Tell the next event that has come, if there is one. Raises BusError."""
        now_s, due = self._bus.clock.now(), hook.due
        if 0 < due.due_at - now_s <= _MAX_RETRY_S:  # further away nobody ever puts one
            hook.later(due.due_at - now_s)
            return
        try:
            found = await self._jobs.find(hook.name)
        except (NotFound, Gone) as error:
            self._without_a_log(hook, now_s - due.since, error)
            return
        webhook = found.birth.job.client.webhook
        untold = [] if webhook is None else [event for event in come(found) if event in webhook.events]
        untold = [event for event in untold if event not in due.settled]
        if webhook is not None and untold:
            await self._send(hook, found, webhook, untold)
        elif webhook is None or found.is_ended:
            hook.settle()
        else:
            hook.later(_pause_s(now_s - due.since))

    def _without_a_log(self, hook: Hook, age_s: float, error: BusError) -> None:
        """It may not be born yet: whoever accepts it died, and its worker does that. Or it is gone."""
        if isinstance(error, NotFound) and age_s < wire.MAX_DEADLINE_S:
            hook.later(_pause_s(age_s))
            return
        log.warning("webhook.log_gone", job=hook.name.job, tenant=hook.name.tenant, error=str(error))
        hook.settle()

    async def _send(self, hook: Hook, found: Status, webhook: Webhook, untold: list[EventType]) -> None:
        """Tell the first of `untold`; later, if too many wait for this receiver's answer already."""
        receiver = urlsplit(webhook.url).netloc.lower()
        if (wait_s := self._receivers.wait_s(receiver)) is not None:
            hook.later(wait_s)
            return
        due, event, now_s = hook.due, untold[0], self._bus.clock.now()
        told = event_id(self._bus.subjects.root, found.birth, event)
        context = {"job": hook.name.job, "tenant": hook.name.tenant, "event_type": event, "event_id": told}
        try:
            # From before anything is waited for, or many would pass where there is room for one.
            with self._receivers.telling(receiver):
                body = msgspec.json.encode(await self._body(found, event))
                await self._sender.post(webhook, signed(webhook, told, int(now_s), body), body)
        except NotDelivered as error:
            tries = due.tries + 1
            if not error.is_final and tries < self._settings.webhook_max_tries:
                again_s = retry.delay_s(tries - 1, self._settings.webhook_retry_s, _MAX_RETRY_S)
                log.info("webhook.failed", error=str(error), tries=tries, again_in_s=round(again_s, 2), **context)
                await hook.step(msgspec.structs.replace(due, tries=tries, due_at=now_s + again_s))
                return
            reason = f"webhook: {event} of job {hook.name.job!r} was not taken ({error}) in {tries} tries"
            await self._bury(hook, told, reason, body)
            log.warning("webhook.dead_lettered", error=str(error), tries=tries, **context)
        else:
            log.debug("webhook.sent", **context)
        if found.is_ended and len(untold) == 1:
            hook.settle()
        else:
            await hook.step(HookProgress(since=due.since, settled=(*due.settled, event)))

    async def _body(self, found: Status, event: EventType) -> dict[str, Any]:
        return {"type": f"job.{event}", "timestamp": when(self._bus.clock.now()), "data": await view(self._bus, found)}

    async def _bury(self, hook: Hook, told: str, reason: str, body: bytes) -> None:
        """Into the dead letters, under the event's own id: the job's own letter is another matter."""
        name, subjects = hook.name, self._bus.subjects
        dead = wire.DeadJob(reason=reason, subject=subjects.hook(name.tenant, name.job), payload=body)
        await self._bus.js.publish(subjects.dead_job(name.tenant, told), wire.encode(dead), {MESSAGE_ID: told})


def _pause_s(age_s: float) -> float:
    return min(_MAX_PAUSE_S, max(_MIN_PAUSE_S, age_s * _PAUSE_SHARE))
