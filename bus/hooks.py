"""The queue of webhooks: one message for each job of which something is still to be told, worked off by any gateway.

It is laid down before the job is, so that no death in between loses it, and replaced by compare-and-set with each step,
so that of two gateways that hold the same message one goes on. What is sent may be sent twice; it is never forgotten.
"""

import asyncio
import secrets

import msgspec

from bus import wire
from bus.client import Bus
from bus.delivery import Delivery
from bus.errors import ApiError, BusError, Unreachable
from bus.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE
from bus.parser import Message
from bus.subjects import LogSubjects, parse_job_of
from bus.telemetry import logger
from bus.topology import HOOKS_CONSUMER
from bus.webhook import Due

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
        self.due = wire.decode(Due, delivery.payload)
        self.name: LogSubjects = bus.subjects.log(*parse_job_of(delivery.subject))

    def settle(self) -> None:
        """Nothing is left to be told."""
        self._delivery.ack()

    def later(self, delay_s: float) -> None:
        """Nothing to be told yet: to anybody, in so many seconds."""
        self._bus.connection.publish(self._delivery.ack_subject, b'-NAK {"delay":%d}' % max(1, int(delay_s * _NS)))

    async def step(self, due: Due) -> None:
        """Go on with `due`, unless somebody else has gone on already. Raises Unreachable, Full."""
        headers = {EXPECT_LAST: str(self._delivery.seq)}
        try:
            await self._bus.js.publish(self._delivery.subject, wire.encode(due), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
        self._delivery.ack()  # of a message that was replaced this only tells the consumer


class Hooks:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._is_declared = False

    async def declare(self) -> None:
        """Raises TopologyMismatch, Unreachable."""
        if not self._is_declared:
            await self._bus.topology.declare_hooks()
            self._is_declared = True

    async def add(self, name: LogSubjects) -> int | None:
        """Lay down that something is to be told of a job; None: that is known. Returns what `remove` takes.

        Raises Full, Unreachable.
        """
        await self.declare()
        due = Due(since=self._bus.clock.now())
        subject = self._bus.subjects.hook(name.tenant, name.job)
        try:
            return (await self._bus.js.publish(subject, wire.encode(due), {EXPECT_LAST: "0"})).seq
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
        return await self._pull({"batch": most, "no_wait": True}, most) or await self._pull(
            {"batch": 1, "expires": int(_PULL_S * _NS)}, 1
        )

    async def _pull(self, body: dict[str, object], most: int) -> list[Hook]:
        found: list[Hook] = []
        over = asyncio.Event()

        def arrived(message: Message) -> None:
            if message.status is None:
                hook = self._hook(message)
                if hook is not None:
                    found.append(hook)
            if message.status is not None or len(found) == most:
                over.set()

        inbox = f"_INBOX_gateway.{secrets.token_hex(8)}"
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._bus.subjects.hooks_stream}.{HOOKS_CONSUMER}"
        subscription = self._bus.connection.subscribe(inbox, arrived)
        try:
            self._bus.connection.publish(subject, msgspec.json.encode(body), reply=inbox)
            async with asyncio.timeout(_PULL_S + _ANSWER_S):
                await over.wait()
        except TimeoutError:
            self._is_declared = False  # somebody may have removed it
            raise Unreachable(f"the queue of webhooks said nothing for {_PULL_S + _ANSWER_S:g} s") from None
        finally:
            subscription.close()
        return found

    def _hook(self, message: Message) -> Hook | None:
        delivery: Delivery | None = None
        try:
            delivery = Delivery(self._bus.connection, message)
            return Hook(self._bus, delivery)
        except (BusError, ValueError) as error:
            log.error("webhook.unreadable", subject=message.subject, error=str(error))
            if delivery is not None:
                delivery.ack()
            return None
