"""Pull jobs: never more than there are free slots, high lanes first, no lane for ever last.

While there is room, one long pull of one message stands open on every consumer, so an idle fleet starts a job at once.
Each delivery tells how many more wait behind it; only then, and after having been full, are consumers asked without
waiting, in the order of their lanes. When the last slot is taken the long pulls are withdrawn by dropping their inbox:
the server forgets a request nobody listens to. What was on the wire at that moment is given back at once.

A consumer is deaf when its heartbeats stop; a reconnect makes every open pull void. Both open new pulls on a new inbox.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from bus.errors import Malformed
from bus.jobs.delivery import Delivery
from bus.telemetry.logging import logger
from bus.transport.connection import Connection, Subscription
from bus.transport.jetstream import retry_delay_s
from bus.transport.parser import Message
from bus.transport.stream_configs import PRIORITY_GROUP

log = logger(__name__)

_NS = 1_000_000_000


class Lane(msgspec.Struct, frozen=True):
    """Consumers of equal rank."""

    name: str
    consumers: tuple[str, ...]


class PullSettings(msgspec.Struct, frozen=True):
    expires_s: float = 5.0
    heartbeat_s: float = 1.0
    #: How long to wait for an immediate pull's answer.
    answer_s: float = 2.0
    #: A lane with jobs that was passed over this often goes first once.
    patience: int = 8
    #: Of pulls that wait at a consumer those of the lowest number are served first: 0 to 9.
    priority: int = 0
    #: Ask so often, and let no pull stand open: that would get what comes just before another puller opens his next.
    poll_s: float | None = None


class _Consumer:
    """One consumer's pulls."""

    __slots__ = ("failures", "heard_at", "name", "not_before", "open_token", "pending")

    def __init__(self, name: str) -> None:
        self.name = name
        #: Token of the open long pull, or None.
        self.open_token: str | None = None
        self.heard_at = 0.0
        #: Messages said to wait behind the last delivery; -1: not known, must be asked.
        self.pending = -1
        #: Requests in a row that were not answered, and the monotonic time before which it is left alone for them.
        self.failures, self.not_before = 0, 0.0

    def answered(self) -> None:
        self.failures, self.not_before = 0, 0.0

    def failed(self) -> None:
        self.not_before = time.monotonic() + retry_delay_s(self.failures)
        self.failures += 1


class _Asked:
    """The immediate pull under way."""

    __slots__ = ("answered", "consumer", "got", "token", "want")

    def __init__(self, token: str, consumer: _Consumer, want: int) -> None:
        self.token, self.consumer, self.want, self.got = token, consumer, want, 0
        #: Whether the consumer answered at all.
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def settle(self, answered: bool) -> None:
        if not self.answered.done():
            self.answered.set_result(answered)


class Puller:
    def __init__(
        self,
        connection: Connection,
        stream: str,
        lanes: Sequence[Lane],
        free: Callable[[], int],
        deliver: Callable[[Delivery], None],
        settings: PullSettings | None = None,
    ) -> None:
        """`free` tells how many more jobs may start now; `deliver` starts one and lowers it before returning."""
        self._connection, self._stream, self._free, self._deliver = connection, stream, free, deliver
        self._settings = settings or PullSettings()
        self._lanes = [(lane.name, [_Consumer(name) for name in lane.consumers]) for lane in lanes]
        self._by_name = {consumer.name: consumer for _, members in self._lanes for consumer in members}
        self._passed = {lane.name: 0 for lane in lanes}
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None
        self._inbox, self._number, self._stopped = "", 0, False
        self._asked: _Asked | None = None
        #: Deliveries given back because no slot was free when they came.
        self.surplus = 0

    def room(self) -> None:
        """Tell that `free` may have grown."""
        self._wake.set()

    async def run(self) -> None:
        """Pull until cancelled, once. Cancelling withdraws every open pull; what was on the wire is given back."""
        off = self._connection.on_reconnect(self._restart)
        try:
            while True:
                self._wake.clear()
                if self._free() <= 0:
                    self._withdraw()
                    await self._wake.wait()
                    continue
                consumer = self._next_to_ask()
                if consumer is not None:
                    await self._ask(consumer)
                    continue
                if self._settings.poll_s is None:
                    self._open_pulls()
                await self._wait(self._settings.poll_s)
        finally:
            self._stopped = True
            off()
            self._withdraw()

    # Order

    def _next_to_ask(self) -> _Consumer | None:
        """The consumer to ask now: of the highest lane with one that has, or may have, jobs waiting.

        One that does not answer is left alone for a moment: it must not keep the others waiting.
        """
        now = time.monotonic()
        waiting = [
            (name, consumer)
            for name, members in self._lanes
            for consumer in members
            if consumer.pending and consumer.not_before <= now
        ]
        if not waiting:
            return None
        starved = [found for found in waiting if self._passed[found[0]] >= self._settings.patience]
        return (starved or waiting)[0][1]

    def _count_passes(self, hit: _Consumer) -> None:
        """`hit` brought a job: lanes below it that may have some were passed over once more."""
        below = False
        for name, members in self._lanes:
            if hit in members:
                self._passed[name], below = 0, True
                members.sort(key=lambda consumer: consumer is hit)  # equals take turns
            elif below and any(consumer.pending for consumer in members):
                self._passed[name] += 1

    def _lane_of(self, consumer: _Consumer) -> str:
        return next(name for name, members in self._lanes if consumer in members)

    # Pulls

    async def _ask(self, consumer: _Consumer) -> None:
        """Take what is there, without waiting for more."""
        self._listen()
        lane = self._lane_of(consumer)
        boosted = self._passed[lane] >= self._settings.patience
        want = 1 if boosted or consumer.pending < 0 else min(self._free(), consumer.pending)
        asked = self._asked = _Asked(self._request(consumer, {"batch": want, "no_wait": True}), consumer, want)
        try:
            async with asyncio.timeout(self._settings.answer_s):
                answered = await asked.answered
        except TimeoutError:
            log.warning("pull.timed_out", consumer=consumer.name, waited_s=self._settings.answer_s)
            answered = False
        finally:
            self._asked = None
        if not answered:
            consumer.failed()
            return
        consumer.answered()
        if not asked.got:
            consumer.pending = self._passed[lane] = 0

    def _open_pulls(self) -> None:
        """A long pull on every consumer that has none."""
        self._listen()
        settings = self._settings
        for consumer in self._by_name.values():
            if consumer.open_token is None and not consumer.pending:
                body = {
                    "batch": 1,
                    "expires": int(settings.expires_s * _NS),
                    "idle_heartbeat": int(settings.heartbeat_s * _NS),
                }
                consumer.open_token = self._request(consumer, body)
                consumer.heard_at = time.monotonic()

    async def _wait(self, poll_s: float | None) -> None:
        """For anything to arrive, for heartbeats to be missed, or for a consumer that failed to get another chance."""
        deaf_s = self._settings.heartbeat_s * 2.5
        chances = [consumer.not_before for consumer in self._by_name.values() if consumer.pending]
        wait_s = min([poll_s or deaf_s, *(chance - time.monotonic() for chance in chances)])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._wake.wait()
        now = time.monotonic()
        deaf = [c.name for c in self._by_name.values() if c.open_token and now - c.heard_at > deaf_s]
        if deaf and self._connection.is_up:
            log.warning("pull.heartbeat_missed", consumers=deaf)
            self._restart()
        if poll_s is not None:
            for consumer in self._by_name.values():
                consumer.pending = consumer.pending or -1

    def _request(self, consumer: _Consumer, body: Mapping[str, object]) -> str:
        self._number += 1
        token = str(self._number)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer.name}"
        body = {**body, "group": PRIORITY_GROUP, "priority": self._settings.priority}
        self._connection.publish(subject, msgspec.json.encode(body), reply=f"{self._inbox}.{token}")
        return token

    def _listen(self) -> None:
        if self._subscription is None:
            self._inbox = f"_INBOX_worker.{secrets.token_hex(8)}"
            self._subscription = self._connection.subscribe(f"{self._inbox}.*", self._arrived)

    def _withdraw(self) -> None:
        """Drop the inbox, and with it every open pull. What waits in the consumers is not known from here on.

        The inbox is heard for a while longer: a job that was on the wire is given back at once, not after ack_wait.
        """
        if self._subscription is not None:
            self._subscription.close(grace_s=5.0)
            self._subscription = None
        for consumer in self._by_name.values():
            consumer.open_token, consumer.pending = None, -1

    def _restart(self) -> None:
        self._withdraw()
        if self._asked is not None:
            self._asked.settle(answered=False)
        self._wake.set()

    # Answers

    def _arrived(self, message: Message) -> None:
        if message.status is not None:
            self._status(message)
            return
        try:
            delivery = Delivery(self._connection, message)
        except Malformed as error:
            log.error("pull.malformed", error=str(error))
            return
        consumer = self._by_name[delivery.consumer]
        consumer.pending, consumer.heard_at = delivery.num_pending, time.monotonic()
        asked = self._asked
        if asked is not None and asked.consumer is consumer and asked.got < asked.want:
            asked.got += 1
            if asked.got == asked.want:
                asked.settle(answered=True)
        else:
            consumer.open_token = None
        self._wake.set()
        if self._free() <= 0 or self._stopped:
            self.surplus += 1
            delivery.give_back_surplus()
            return
        self._count_passes(consumer)
        self._deliver(delivery)

    def _status(self, message: Message) -> None:
        token = message.subject.rpartition(".")[2]
        consumer = next((c for c in self._by_name.values() if c.open_token == token), None)
        if message.status == "100":
            if consumer is not None:
                consumer.heard_at = time.monotonic()
            return
        if self._asked is not None and token == self._asked.token:
            # 404: empty. 408: the batch ended early. Anything else means that nobody leads or the consumer is gone.
            self._asked.settle(answered=message.status in {"404", "408"})
        elif consumer is not None:
            consumer.open_token = None
            if message.status != "408":
                # The consumer moved, was deleted or has no leader: ask, with the caller's pauses between.
                consumer.pending = -1
                log.debug("pull.ended", consumer=consumer.name, status=message.status_text)
            self._wake.set()
