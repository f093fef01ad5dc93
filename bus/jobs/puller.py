"""Pull jobs: never more than there are free slots, high lanes first, no lane for ever last.

While there is room, one long pull of one message stands open on every consumer, so an idle fleet starts a job at once.
Each delivery says how many more wait behind it. Only then, and after all slots were taken, consumers are pulled from
without waiting, in the order of their lanes. When the last slot is taken the long pulls are withdrawn by closing their
inbox: the server forgets a request without a subscriber. A message that was on the wire then is given back at once.

When a consumer's heartbeats stop, and after a reconnect, every open pull is void: new ones are sent on a new inbox.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bus.errors import Malformed
from bus.jobs.lanes import UNKNOWN, Consumer, Lane, Lanes
from bus.telemetry.logging import logger
from bus.transport.connection import Connection
from bus.transport.parser import Callback, Message
from bus.transport.pull import Delivery, PullInbox, PullProgress
from bus.transport.stream_configs import PRIORITY_GROUP

log = logger(__name__)

#: A closed inbox still receives for so long, to give back messages that were on the wire.
_GRACE_S: Final = 5.0
#: An open pull is void after so many heartbeat intervals without a message or a heartbeat.
_MISSED_HEARTBEATS: Final = 2.5


class PullSettings(msgspec.Struct, frozen=True):
    """Times and priorities of one puller."""

    #: How long a long pull stands open before it is renewed.
    expires_s: float = 5.0
    #: Interval of a consumer's heartbeats on an open long pull; two and a half without one make it void.
    heartbeat_s: float = 1.0
    #: How long to wait for an immediate pull's answer.
    answer_s: float = 2.0
    #: A lane with jobs that was passed over this often goes first once.
    patience: int = 8
    #: Open pulls of the lowest number are served first: 0 to 9.
    priority: int = 0
    #: Poll at this interval instead of long pulls; a standing pull would win jobs ahead of primary workers.
    poll_s: float | None = None


class _Immediate:
    """The immediate pull under way. At most one is."""

    __slots__ = ("consumer", "progress", "reply")

    def __init__(self, consumer: Consumer, reply: str, batch: int) -> None:
        self.consumer = consumer
        self.reply = reply
        self.progress = PullProgress(batch)

    def takes(self, consumer: Consumer) -> bool:
        """Whether a message from `consumer` belongs to this pull, and not to the long one."""
        return self.consumer is consumer and self.progress.num_received < self.progress.batch


class _Requests:
    """Sends pull requests on one inbox, opened with the first of them."""

    def __init__(self, connection: Connection, stream: str, settings: PullSettings, on_message: Callback) -> None:
        self._connection = connection
        self._stream = stream
        self._settings = settings
        self._on_message = on_message
        self._inbox: PullInbox | None = None

    def send(self, consumer: Consumer, batch: int, *, is_long: bool = False) -> str:
        """Returns the request's reply subject."""
        if self._inbox is None:
            self._inbox = PullInbox(self._connection, self._stream, "worker", self._on_message)
        return self._inbox.request(
            consumer.name,
            batch,
            expires_s=self._settings.expires_s if is_long else 0.0,
            heartbeat_s=self._settings.heartbeat_s if is_long else 0.0,
            group=PRIORITY_GROUP,
            priority=self._settings.priority,
        )

    def withdraw(self) -> None:
        """Close the inbox, and with it every open pull."""
        if self._inbox is not None:
            self._inbox.close(_GRACE_S)
            self._inbox = None


class Puller:
    """Pulls from the consumers of one stream into the free slots of one worker."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        lanes: Sequence[Lane],
        free: Callable[[], int],
        deliver: Callable[[Delivery], None],
        settings: PullSettings | None = None,
        capacity: asyncio.Event | None = None,
    ) -> None:
        """`free` says how many more jobs may start now; `deliver` starts one and lowers it before returning.

        `capacity` is to be set whenever `free` may have grown; it is cleared here.
        """
        self._connection = connection
        self._free = free
        self._deliver = deliver
        self._settings = settings or PullSettings()
        self._lanes = Lanes(lanes, self._settings.patience)
        self._consumers = list(self._lanes.consumers.values())
        self._wake = capacity or asyncio.Event()
        self._requests = _Requests(connection, stream, self._settings, self._arrived)
        self._immediate: _Immediate | None = None
        self._is_stopped = False

    async def run(self) -> None:
        """Pull until cancelled, once. Cancelling withdraws every open pull; messages on the wire are given back."""
        self._connection.state.on_reconnect.add(self._restart)
        try:
            while True:
                self._wake.clear()
                if self._free() <= 0:
                    self._withdraw()
                    await self._wake.wait()
                    continue
                consumer = self._lanes.next_to_pull(time.monotonic())
                if consumer is not None:
                    await self._pull_now(consumer)
                    continue
                if self._settings.poll_s is None:
                    self._open_pulls()
                await self._wait(self._settings.poll_s)
        finally:
            self._is_stopped = True
            self._connection.state.on_reconnect.discard(self._restart)
            self._withdraw()

    # Pulls

    async def _pull_now(self, consumer: Consumer) -> None:
        """Take the jobs that are there, without waiting for more."""
        batch = self._lanes.batch_for(consumer, self._free())
        immediate = self._immediate = _Immediate(consumer, self._requests.send(consumer, batch), batch)
        progress = immediate.progress
        try:
            is_over = await progress.wait(self._settings.answer_s)
        finally:
            self._immediate = None
        if not is_over:
            log.warning("pull.timed_out", consumer=consumer.name, waited_s=self._settings.answer_s)
        if progress.refusal:
            consumer.failed(time.monotonic())
            return
        consumer.answered()
        if not progress.num_received:
            self._lanes.found_empty(consumer)

    def _open_pulls(self) -> None:
        """Send a long pull to every consumer that has none and is known to be empty."""
        for consumer in self._consumers:
            if consumer.open_pull is None and not consumer.num_pending:
                consumer.open_pull = self._requests.send(consumer, 1, is_long=True)
                consumer.seen_at = time.monotonic()

    async def _wait(self, poll_s: float | None) -> None:
        """Wait for a message, for heartbeats to be missed, or until a consumer that failed may be pulled from again."""
        silence_s = self._settings.heartbeat_s * _MISSED_HEARTBEATS
        retries = [consumer.not_before for consumer in self._consumers if consumer.num_pending]
        wait_s = min([poll_s or silence_s, *(retry - time.monotonic() for retry in retries)])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._wake.wait()
        now = time.monotonic()
        silent = [each.name for each in self._consumers if each.open_pull and now - each.seen_at > silence_s]
        if silent and self._connection.state.is_up:
            log.warning("pull.heartbeat_missed", consumers=silent)
            self._restart()
        if poll_s is not None:
            for consumer in self._consumers:
                consumer.num_pending = consumer.num_pending or UNKNOWN

    def _withdraw(self) -> None:
        """Make every open pull void. How many messages wait in the consumers is not known from here on."""
        self._requests.withdraw()
        for consumer in self._consumers:
            consumer.forget()

    def _restart(self) -> None:
        self._withdraw()
        if self._immediate is not None:
            self._immediate.progress.fail("its inbox was closed")
        self._wake.set()

    # Replies

    def _arrived(self, message: Message) -> None:
        status = message.status if message.head is not None else None
        if status is not None:
            self._on_status(message, status)
            return
        try:
            delivery = Delivery(self._connection, message)
        except Malformed as error:
            log.error("pull.malformed", error=str(error))
            return
        consumer = self._lanes.consumers[delivery.consumer]
        consumer.num_pending = delivery.num_pending
        consumer.seen_at = time.monotonic()
        immediate = self._immediate
        if immediate is not None and immediate.takes(consumer):
            immediate.progress.on_message()
        else:
            consumer.open_pull = None
        self._wake.set()
        if self._free() <= 0 or self._is_stopped:
            delivery.give_back_surplus()
            return
        self._lanes.delivered(consumer)
        self._deliver(delivery)

    def _on_status(self, message: Message, status: str) -> None:
        consumer = next((each for each in self._consumers if each.open_pull == message.subject), None)
        if status == "100":
            if consumer is not None:
                consumer.seen_at = time.monotonic()
            return
        if self._immediate is not None and message.subject == self._immediate.reply:
            self._immediate.progress.on_status(message)
        elif consumer is not None:
            consumer.open_pull = None
            if status != "408":
                # The consumer moved, was deleted or has no leader: pull at once, with `not_before` pausing repetitions.
                consumer.num_pending = UNKNOWN
                log.debug("pull.ended", consumer=consumer.name, status=message.status_text)
            self._wake.set()
