"""One connection to NATS: publish, subscribe, request.

Callbacks are synchronous and run in the read loop: they put a message somewhere and return. Nothing is buffered while
the connection is down: a request waits for it to come back, a plain publish is dropped (every kind of message sent that
way is repeated or repaired), and a request that was waiting for its reply fails at once with Unreachable. So no message
is ever sent twice without its caller's knowledge.
"""

import asyncio
from typing import Protocol, Self

from bus.errors import NoResponders, Unreachable
from bus.settings import BusSettings
from bus.telemetry.logging import logger
from bus.transport.nats_py import DirectLink
from bus.transport.nats_py_public import PublicLink
from bus.transport.parser import Callback, Message
from bus.transport.replies import Replies, expire
from bus.transport.state import ConnectionState

log = logger(__name__)

#: A larger payload waits for the socket's buffer to drain before it is written.
_LARGE_BYTES = 4096


class Link(Protocol):
    """A connected client of nats-py: `DirectLink`, or `PublicLink` with the setting `own_parser` off."""

    #: Whether a subscription must reach other servers of a cluster before it takes effect there.
    is_clustered: bool

    def send(self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> None:
        """Publish. Raises ValueError on a subject, header or size at which the server would close the connection."""

    def subscribe(self, subject: str, queue: str, callback: Callback) -> int:
        """Call `callback` with each message; returns an id for `unsubscribe`. Survives reconnects."""

    def unsubscribe(self, sid: int, grace_s: float) -> None:
        """End a subscription; idempotent. Messages on the wire still reach the callback for `grace_s`."""

    async def ping(self, seen: "asyncio.Future[None]", timeout_s: float) -> None:
        """Set a result on `seen` once the server has processed everything sent before."""

    async def drain(self, timeout_s: float) -> None:
        """Wait for room in the socket's buffer. Raises Unreachable."""

    async def close(self, timeout_s: float) -> None:
        """Write pending data and close for good."""


class Subscription:
    """Interest in a subject until `close`, across reconnects."""

    __slots__ = ("_link", "_sid")

    def __init__(self, link: Link, sid: int) -> None:
        self._link = link
        self._sid = sid

    def close(self, grace_s: float = 0.0) -> None:
        """Unsubscribe; idempotent. Messages already on the wire still reach the callback for `grace_s`."""
        self._link.unsubscribe(self._sid, grace_s)


class Connection:
    """Use `connect` to make one; leaving `async with` closes it."""

    def __init__(self, link: Link, state: ConnectionState, replies: Replies, timeout_s: float) -> None:
        """`timeout_s`: default limit of a request or a flush."""
        self.state = state
        self.replies = replies
        self.is_clustered = link.is_clustered
        self._link = link
        self._send = link.send
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, settings: BusSettings, role: str, patience_s: float = 30.0) -> Self:
        """Connect as `role` (`gateway`, `worker`, …), which names the connection and its private inbox.

        Raises NoServer if no server answered within `patience_s`, Unreachable if one refused the connection.
        """
        inbox_prefix = f"_INBOX_{role}"
        replies = Replies(inbox_prefix)
        state = ConnectionState(on_down=replies.fail_all)
        kind = DirectLink if settings.own_parser else PublicLink
        link: Link = await kind.connect(settings, f"antiphon {role}", inbox_prefix, patience_s, state)
        connection = cls(link, state, replies, settings.request_timeout_s)
        connection.subscribe(replies.all_subjects, replies.deliver)
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Write pending data and close. Requests that still wait get Unreachable."""
        self.replies.fail_all("connection closed")
        await self._link.close(self._timeout_s)
        self.state.set_closed()

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send without waiting; dropped while the connection is down.

        Raises ValueError on a subject, header or size at which the server would close the connection.
        """
        if self.state.is_up:
            self._send(subject, data, reply, headers)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the server has processed everything sent before. Raises Unreachable."""
        timeout_s = timeout_s or self._timeout_s
        await self.state.wait_up(timeout_s)
        seen: asyncio.Future[None] = self._loop.create_future()
        with self.replies.failing(seen):
            try:
                async with asyncio.timeout(timeout_s):
                    await self._link.ping(seen, timeout_s)
                    await seen
            except TimeoutError:
                raise Unreachable(f"flush: no PONG within {timeout_s:g} s") from None

    def subscribe(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """Call `callback` with each message, in order, in the read loop. If it raises, that is logged."""

        def guarded(message: Message) -> None:
            try:
                callback(message)
            except Exception:
                log.exception("bus.callback_failed", subject=message.subject)

        return Subscription(self._link, self._link.subscribe(subject, queue, guarded))

    async def request(
        self, subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None, timeout_s: float | None = None
    ) -> Message:
        """Send a request and return the first reply. Cancelling leaves nothing behind here; the request stays sent.

        Raises:
            NoResponders: at once, if there is no subscriber.
            Unreachable: no reply within `timeout_s`, or the connection was lost meanwhile.
        """
        timeout_s = timeout_s or self._timeout_s
        await self.state.wait_up(timeout_s)
        if len(data) > _LARGE_BYTES:
            await self._link.drain(timeout_s)
            await self.state.wait_up(timeout_s)
        future: asyncio.Future[Message] = self._loop.create_future()
        inbox = self.replies.open(future)
        expiry = self._loop.call_later(timeout_s, expire, future, subject, timeout_s)
        try:
            self._send(subject, data, inbox, headers)
            message = await future
        finally:
            expiry.cancel()
            self.replies.close(inbox)
        if message.status == "503" and not message.data:
            raise NoResponders(f"no subscriber on {subject}")
        return message
