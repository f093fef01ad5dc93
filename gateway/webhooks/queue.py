"""The queue of webhooks in JetStream: one message per job with pending webhook events, processed by any gateway.

A message is stored before its job is accepted, so that no crash in between loses it. Each step replaces it by
compare-and-set, so that of two gateways that hold the same message one goes on. An event may be delivered twice; none
is forgotten.
"""

from typing import Final

from bus import wire
from bus.errors import ApiError, BusError, Full, StorageFull, Unreachable
from bus.jobs.client import Bus
from bus.subjects import JobKey, parse_job_of
from bus.telemetry.logging import logger
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE
from bus.transport.parser import Message
from bus.transport.pull import Delivery, pull_once
from bus.transport.stream_configs import HOOKS_CONSUMER
from bus.webhook import HookProgress

log = logger(__name__)

_NS: Final = 1_000_000_000
#: How long a pull from the empty queue waits for a message.
_PULL_S: Final = 5.0
#: Longer than the server takes to answer that a pull has expired.
_ANSWER_S: Final = 2.0


class PendingWebhook:
    """One message of the queue, delivered to this gateway. Call one of `finish`, `defer` and `advance`, once."""

    def __init__(self, bus: Bus, delivery: Delivery) -> None:
        """Raises Malformed; then acknowledge `delivery`."""
        self._bus = bus
        self._delivery = delivery
        self.progress = wire.decode(HookProgress, delivery.payload)
        self.key: JobKey = bus.subjects.job_key(*parse_job_of(delivery.subject))

    @property
    def owner(self) -> str:
        """Whose share of the gateway's pools it uses, as `Caller.owner`."""
        return f"tenant-{self.key.tenant}"

    def finish(self) -> None:
        """Remove the message: no event is pending."""
        self._delivery.ack()

    def defer(self, delay_s: float) -> None:
        """Return the message to the queue, which redelivers it to any gateway after `delay_s`."""
        self._bus.connection.publish(self._delivery.ack_subject, b'-NAK {"delay":%d}' % max(1, int(delay_s * _NS)))

    async def advance(self, progress: HookProgress) -> None:
        """Replace the message by one with `progress`, unless another gateway has replaced it.

        Raises Unreachable, Full.
        """
        headers = {EXPECT_LAST: str(self._delivery.seq)}
        try:
            await self._bus.js.publish(self._delivery.subject, wire.encode(progress), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
        # Awaited, unlike an acknowledgement: a redelivery after the last event would deliver that event again.
        await self._bus.js.delete(self._bus.subjects.hooks_stream, self._delivery.seq)
        self._delivery.ack()


class WebhookQueue:
    """Adds to the queue and pulls from it. Its stream and consumer are created at the first use."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._is_declared = False

    async def declare(self) -> None:
        """Create the stream and its consumer, unless that is done. Raises TopologyMismatch, Unreachable."""
        if not self._is_declared:
            await self._bus.topology.declare_hooks()
            self._is_declared = True

    async def add(self, key: JobKey) -> int | None:
        """Store the message of a job; its stream sequence, for `remove`. None: the job has one.

        Raises StorageFull, Unreachable.
        """
        await self.declare()
        progress = HookProgress(since=self._bus.clock.now())
        subject = self._bus.subjects.hook(key.tenant, key.job)
        try:
            return (await self._bus.js.publish(subject, wire.encode(progress), {EXPECT_LAST: "0"})).seq
        except Full as error:
            raise StorageFull(f"the webhook queue is full: {error}") from error
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            return None

    async def remove(self, seq: int) -> None:
        """Remove the message of a job that was refused. Raises Unreachable."""
        await self._bus.js.delete(self._bus.subjects.hooks_stream, seq)

    async def pull(self, most: int) -> list[PendingWebhook]:
        """The next messages; waits up to 5 s for one if there are none. If cancelled, they are redelivered later.

        Raises Unreachable, TopologyMismatch.
        """
        await self.declare()
        return await self._pull(most, 0.0) or await self._pull(1, _PULL_S)

    async def _pull(self, most: int, expires_s: float) -> list[PendingWebhook]:
        try:
            messages = await pull_once(
                self._bus.connection,
                self._bus.subjects.hooks_stream,
                HOOKS_CONSUMER,
                role="gateway",
                batch=most,
                expires_s=expires_s,
                answer_s=_ANSWER_S,
                on_late=self._return,
            )
        except Unreachable:
            self._is_declared = False  # an operator may have removed the queue
            raise
        return [webhook for message in messages if (webhook := self._read(message)) is not None]

    def _return(self, message: Message) -> None:
        """Return a message that arrived after its pull had ended."""
        webhook = self._read(message)
        if webhook is not None:
            webhook.defer(0)

    def _read(self, message: Message) -> PendingWebhook | None:
        """None for a malformed message: it is acknowledged, so that it is not redelivered."""
        delivery: Delivery | None = None
        try:
            delivery = Delivery(self._bus.connection, message)
            return PendingWebhook(self._bus, delivery)
        except (BusError, ValueError) as error:
            log.error("webhook.malformed", subject=message.subject, error=str(error))
            if delivery is not None:
                delivery.ack()
            return None
