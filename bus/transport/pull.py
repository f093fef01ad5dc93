"""Pull requests to JetStream consumers: how one is written, how its replies are counted, the messages that it brings.

The server answers a request with up to `batch` messages on its reply subject, and with a status line when it ends the
request earlier: 404 (nothing is there), 408 (its time is up), anything else (no leader, consumer deleted: a refusal).

Acks are not tied to a delivery: only a lease holder may use one.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bus import retry
from bus.errors import Malformed, Unreachable
from bus.transport.connection import Connection
from bus.transport.parser import Callback, Message

_NS: Final = 1_000_000_000
#: Statuses that end a request as agreed; any other one is a refusal.
_REGULAR_ENDS: Final = frozenset({"404", "408"})


class PullInbox:
    """The reply subjects of pull requests to consumers of one stream, until `close`."""

    __slots__ = ("_connection", "_num_requests", "_prefix", "_stream", "_subscription")

    def __init__(self, connection: Connection, stream: str, role: str, on_message: Callback) -> None:
        """`role` names the private inbox, as in `Connection.connect`. `on_message` gets messages and status lines.

        A status line arrives on the reply subject of its request; a message keeps the subject it was stored under.
        """
        self._connection = connection
        self._stream = stream
        # Random: two processes may well have their objects at the same address.
        self._prefix = f"_INBOX_{role}.{secrets.token_hex(8)}"
        self._num_requests = 0
        self._subscription = connection.subscribe(f"{self._prefix}.*", on_message)

    def request(
        self,
        consumer: str,
        batch: int,
        *,
        expires_s: float = 0.0,
        heartbeat_s: float = 0.0,
        group: str = "",
        priority: int = 0,
    ) -> str:
        """Request `batch` messages of `consumer`; returns the request's reply subject. Never waits.

        Without `expires_s` the server sends only messages that are there now; with it the request stays open so long.
        `priority` (0 first, 9 last) orders open requests of one priority `group`. Dropped while the connection is down.
        """
        self._num_requests += 1
        reply = f"{self._prefix}.{self._num_requests}"
        body: dict[str, Any] = {"batch": batch}
        if expires_s:
            body["expires"] = int(expires_s * _NS)
        else:
            body["no_wait"] = True
        if heartbeat_s:
            body["idle_heartbeat"] = int(heartbeat_s * _NS)
        if group:
            body |= {"group": group, "priority": priority}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        self._connection.publish(subject, msgspec.json.encode(body), reply=reply)
        return reply

    def close(self, grace_s: float) -> None:
        """Withdraw every open request: the server forgets one without a subscriber. Idempotent.

        Messages that were on the wire still reach the callback for `grace_s`; without that they would come again only
        after ack_wait.
        """
        self._subscription.close(grace_s)


class PullProgress:
    """Counts the replies to one pull request until its batch is complete or the server has ended it."""

    __slots__ = ("_over", "batch", "num_received", "refusal")

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.num_received = 0
        #: Why the server, or the caller by `fail`, ended the request; "" if it ended as agreed.
        self.refusal = ""
        self._over = asyncio.Event()

    def on_message(self) -> None:
        """One message of the batch has arrived."""
        self.num_received += 1
        if self.num_received >= self.batch:
            self._over.set()

    def on_status(self, message: Message) -> None:
        """The server has ended the request."""
        if message.status not in _REGULAR_ENDS:
            self.refusal = message.status_text
        self._over.set()

    def fail(self, reason: str) -> None:
        """Stop waiting: nothing more can arrive."""
        self.refusal = reason
        self._over.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until the request is over. False: not within `timeout_s`; it then counts as refused."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._over.wait()
        except TimeoutError:
            self.refusal = f"no answer within {timeout_s:g} s"
            return False
        return True


class Delivery:
    """A message of a consumer, with the facts that its acknowledgement subject carries.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time ns>.<pending>`; a newer server puts the
    domain and the account after `ACK` and may append a token.
    """

    __slots__ = ("_connection", "ack_subject", "consumer", "num_delivered", "num_pending", "payload", "seq", "subject")

    def __init__(self, connection: Connection, message: Message) -> None:
        """Raises Malformed if `message` was not delivered by a consumer."""
        parts = _parts(message.reply)
        try:
            self.consumer = parts[0]
            #: Counts from 1.
            self.num_delivered = int(parts[1])
            #: Sequence in the stream.
            self.seq = int(parts[2])
            #: Messages that wait behind this one in its consumer.
            self.num_pending = int(parts[5])
        except (IndexError, ValueError) as error:
            raise Malformed(f"not an acknowledgement subject: {message.reply[:200]!r}") from error
        self._connection = connection
        self.ack_subject = message.reply
        self.subject = message.subject
        self.payload = message.data

    def is_older_than(self, ack_subject: str) -> bool:
        """Whether the server has since delivered the same message again, as `ack_subject` shows.

        A worker that was frozen finds such deliveries in its socket when it wakes up. They give no right to anything:
        taking the lease with one would fence the worker that got the newer delivery.
        """
        parts = _parts(ack_subject)
        return len(parts) == 6 and int(parts[2]) == self.seq and int(parts[1]) > self.num_delivered

    def ack(self) -> None:
        """Take the message out of the queue. Not awaited: if the ack is lost, a redelivery finds the log's end."""
        ack(self._connection, self.ack_subject)

    def keep_alive(self) -> None:
        """Restart the ack_wait countdown."""
        keep_alive(self._connection, self.ack_subject)

    def give_back(self) -> None:
        """NAK: deliver again, to any worker, now."""
        give_back(self._connection, self.ack_subject)

    def give_back_surplus(self) -> None:
        """NAK: deliver again to a worker with a free slot; the more often it came, the later.

        Without pauses, many pullers that fill up at the same time pass one message around until it looks like one that
        no worker can take.
        """
        num_returned = self.num_delivered - 1
        delay_s = retry.delay_s(num_returned - 1, 0.01, 0.5, None) if num_returned else 0.0
        body = b'-NAK {"delay":%d}' % int(delay_s * 1e9) if delay_s else b"-NAK"
        self._connection.publish(self.ack_subject, body)


def stream_seq(ack_subject: str) -> int | None:
    """Sequence in its stream of the message that an acknowledgement subject is for; None if it is none."""
    parts = ack_subject.split(".")
    try:
        return int(parts[5 if len(parts) == 9 else 7])
    except (IndexError, ValueError):
        return None


def ack(connection: Connection, ack_subject: str) -> None:
    """Take a delivery's message out of the queue. For its holder, or a process that has read the end of its log."""
    connection.publish(ack_subject, b"+ACK")


def give_back(connection: Connection, ack_subject: str) -> None:
    """NAK a delivery in place of its holder. Only for the process that replaced the holder's lease."""
    connection.publish(ack_subject, b"-NAK")


def keep_alive(connection: Connection, ack_subject: str) -> None:
    """Restart the ack_wait countdown. Only while the lease is held and the engine makes progress."""
    connection.publish(ack_subject, b"+WPI")


def _parts(ack_subject: str) -> list[str]:
    """Consumer, delivered, stream seq, consumer seq, time, pending."""
    parts = ack_subject.split(".")
    offset = 3 if len(parts) == 9 else 5
    return parts[offset : offset + 6]


async def pull_once(
    connection: Connection,
    stream: str,
    consumer: str,
    *,
    role: str,
    batch: int,
    expires_s: float,
    answer_s: float,
    on_late: Callable[[Message], None],
    grace_s: float = 10.0,
) -> list[Message]:
    """Up to `batch` messages of a consumer, oldest first; with `expires_s` 0 only those that are there now.

    `on_late` gets messages that arrive within `grace_s` after the return, and on cancellation those received before:
    give them back at once, or they come again only after ack_wait.

    Raises:
        Unreachable: no message came, and the server refused, or did not answer within `expires_s + answer_s`.
    """
    progress, found, is_closed = PullProgress(batch), list[Message](), False

    def on_message(message: Message) -> None:
        if message.status is not None:
            progress.on_status(message)
        elif is_closed:
            on_late(message)
        else:
            found.append(message)
            progress.on_message()

    inbox = PullInbox(connection, stream, role, on_message)
    try:
        inbox.request(consumer, batch, expires_s=expires_s)
        await progress.wait(expires_s + answer_s)
    except asyncio.CancelledError:
        for message in found:
            on_late(message)
        raise
    finally:
        is_closed = True
        inbox.close(grace_s)
    if progress.refusal and not found:
        raise Unreachable(f"pull from {consumer} of {stream}: {progress.refusal}")
    return found
