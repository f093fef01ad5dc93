"""Pull requests to JetStream consumers: how one is written, how its replies are counted, and the one-shot form.

The server answers a request with up to `batch` messages on its reply subject, and with a status line when it ends the
request earlier: 404 (nothing is there), 408 (its time is up), anything else (no leader, consumer deleted: a refusal).
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bus.errors import Unreachable
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
