"""The queue of webhooks: one message for each job of which something is still to be told, worked off by any gateway.

It is laid down before the job is, so that no death in between loses it, and replaced by compare-and-set with each step,
so that of two gateways that hold the same message one goes on. What is sent may be sent twice; it is never forgotten.
"""

from bus import wire
from bus.errors import ApiError, BusError, Full, StorageFull, Unreachable
from bus.jobs.client import Bus
from bus.jobs.delivery import Delivery
from bus.subjects import JobKey, parse_job_of
from bus.telemetry.logging import logger
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE
from bus.transport.parser import Message
from bus.transport.pull import pull_once
from bus.transport.stream_configs import HOOKS_CONSUMER
from bus.webhook import HookProgress

log = logger(__name__)

_NS = 1_000_000_000
_PULL_S = 5.0
#: Longer than the server takes to say that a pull is over.
_ANSWER_S = 2.0


class Hook:
    """One message of the queue in our hands; call one of its verbs, once."""

    def __init__(self, bus: Bus, delivery: Delivery) -> None:
        """Raises Malformed; then `Delivery.ack` it."""
        self._bus, self._delivery = bus, delivery
        self.due = wire.decode(HookProgress, delivery.payload)
        self.name: JobKey = bus.subjects.job_key(*parse_job_of(delivery.subject))

    def settle(self) -> None:
        """Nothing is left to be told."""
        self._delivery.ack()

    def later(self, delay_s: float) -> None:
        """Nothing to be told yet: to anybody, in so many seconds."""
        self._bus.connection.publish(self._delivery.ack_subject, b'-NAK {"delay":%d}' % max(1, int(delay_s * _NS)))

    async def step(self, due: HookProgress) -> None:
        """Go on with `due`, unless somebody else has gone on already. Raises Unreachable, Full."""
        headers = {EXPECT_LAST: str(self._delivery.seq)}
        try:
            await self._bus.js.publish(self._delivery.subject, wire.encode(due), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
        # Awaited, as an acknowledgement would not be: offered again after the end was told, it would be told again.
        await self._bus.js.delete(self._bus.subjects.hooks_stream, self._delivery.seq)
        self._delivery.ack()


class Hooks:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._is_declared = False

    async def declare(self) -> None:
        """Raises TopologyMismatch, Unreachable."""
        if not self._is_declared:
            await self._bus.topology.declare_hooks()
            self._is_declared = True

    async def add(self, name: JobKey) -> int | None:
        """Lay down that something is to be told of a job; None: that is known. Returns what `remove` takes.

        Raises StorageFull, Unreachable.
        """
        await self.declare()
        due = HookProgress(since=self._bus.clock.now())
        subject = self._bus.subjects.hook(name.tenant, name.job)
        try:
            return (await self._bus.js.publish(subject, wire.encode(due), {EXPECT_LAST: "0"})).seq
        except Full as error:
            raise StorageFull(f"the bus takes no more webhooks: {error}") from error
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            return None

    async def remove(self, seq: int) -> None:
        """The job that it was laid down for was refused, or is somebody else's."""
        await self._bus.js.delete(self._bus.subjects.hooks_stream, seq)

    async def pull(self, most: int) -> list[Hook]:
        """The next ones; if there are none, wait some seconds for one. Cancelling leaves them to a later look.

        Raises Unreachable, TopologyMismatch.
        """
        await self.declare()
        return await self._pull(most, 0.0) or await self._pull(1, _PULL_S)

    async def _pull(self, most: int, expires_s: float) -> list[Hook]:
        try:
            messages = await pull_once(
                self._bus.connection,
                self._bus.subjects.hooks_stream,
                HOOKS_CONSUMER,
                role="gateway",
                batch=most,
                expires_s=expires_s,
                answer_s=_ANSWER_S,
                on_late=self._give_back,
            )
        except Unreachable:
            self._is_declared = False  # an operator may have removed the queue
            raise
        return [hook for message in messages if (hook := self._read(message)) is not None]

    def _give_back(self, message: Message) -> None:
        hook = self._read(message)
        if hook is not None:
            hook.later(0)

    def _read(self, message: Message) -> Hook | None:
        """None for a message that cannot be read: it is acknowledged, so that it does not come again."""
        delivery: Delivery | None = None
        try:
            delivery = Delivery(self._bus.connection, message)
            return Hook(self._bus, delivery)
        except (BusError, ValueError) as error:
            log.error("webhook.malformed", subject=message.subject, error=str(error))
            if delivery is not None:
                delivery.ack()
            return None
