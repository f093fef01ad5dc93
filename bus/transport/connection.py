"""One connection to NATS: publish, subscribe, request.

Callbacks are synchronous and run in the read loop: they put a message somewhere and return. Nothing is buffered while
the connection is down: a request waits for it to come back, a plain publish is dropped (every kind of message sent that
way is repeated or repaired), and a request that was waiting for its reply fails at once with Unreachable. So no message
is ever sent twice without its caller's knowledge.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Iterator
from typing import Any, Final, Protocol, Self

from bus.errors import NoResponders, NotPermitted, Unreachable
from bus.settings import BusSettings
from bus.transport.nats_py import DirectLink
from bus.transport.nats_py_public import PublicLink
from bus.transport.parser import Callback, Message
from bus.transport.state import ConnectionState

#: A larger payload waits for the socket's buffer to drain before it is written.
_LARGE_BYTES: Final = 4096
#: A process that stood still may have the reply in its socket already: a timeout leaves this long for reading it.
_READ_S: Final = 0.01
_REFUSES: Final = "nats-server does not permit this user"


class Link(Protocol):
    """A connected client of nats-py: `DirectLink`, or `PublicLink` with the setting `own_parser` off."""

    #: Whether a subscription must reach other servers of a cluster before it takes effect there.
    is_clustered: bool

    def send(self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> None:
        """Publish. Raises ValueError on a subject, header or size at which the server would close the connection."""

    def subscribe(self, subject: str, queue: str, callback: Callback) -> int:
        """Call `callback` with each message; returns an id for `unsubscribe`. Survives reconnects.

        If `callback` raises, that is logged.
        """

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


class Replies:
    """Reply subjects in use, each with the future or the callback that receives its messages.

    All replies arrive on one wildcard subscription and are dispatched by their subject.
    """

    def __init__(self, inbox_prefix: str) -> None:
        """Reply subjects are `<inbox_prefix>.<random>.<number>`."""
        self._prefix = f"{inbox_prefix}.{secrets.token_hex(8)}."
        self._numbers = itertools.count()
        self._receivers: dict[str, Callback | asyncio.Future[Message]] = {}
        #: The subject of the request that each reply subject is for.
        self._requested: dict[str, str] = {}
        #: Futures that do not wait for a reply but fail with the connection all the same, with their request's subject.
        self._failing: dict[asyncio.Future[Any], str] = {}

    @property
    def all_subjects(self) -> str:
        """Wildcard of all reply subjects made here."""
        return self._prefix + "*"

    @property
    def num_waiting(self) -> int:
        """Reply subjects and futures that are in use."""
        return len(self._receivers) + len(self._failing)

    def open(self, receiver: "Callback | asyncio.Future[Message]", requested: str = "") -> str:
        """Return a new reply subject. Its messages go to `receiver`, the first one only if that is a future.

        `requested`: the subject of the request.
        """
        subject = f"{self._prefix}{next(self._numbers)}"
        self._receivers[subject] = receiver
        self._requested[subject] = requested
        return subject

    def close(self, subject: str) -> None:
        """Drop later messages of a reply subject."""
        del self._receivers[subject], self._requested[subject]

    def deliver(self, message: Message) -> None:
        """Pass a message to the receiver of its subject; without one, drop it."""
        receiver = self._receivers.get(message.subject)
        if receiver is None:
            return
        if isinstance(receiver, asyncio.Future):
            if not receiver.done():
                receiver.set_result(message)
        else:
            receiver(message)

    def fail_all(self, reason: str) -> None:
        """Set Unreachable on every future that waits. Callbacks stay."""
        for receiver in [*self._receivers.values(), *self._failing]:
            if isinstance(receiver, asyncio.Future) and not receiver.done():
                receiver.set_exception(Unreachable(reason))

    def refuse(self, act: str, refused: str) -> None:
        """Set NotPermitted on every future whose reply cannot come.

        `act`, `refused`: as of `ConnectionState`. Without the subscription to our reply subjects no reply can come.
        """
        waiting = [(self._receivers[reply], subject) for reply, subject in self._requested.items()]
        has_no_replies = act == "subscription" and refused == self.all_subjects.lower()
        for receiver, subject in [*waiting, *self._failing.items()]:
            if not isinstance(receiver, asyncio.Future) or receiver.done():
                continue
            if has_no_replies:
                receiver.set_exception(
                    NotPermitted(f"{_REFUSES} to subscribe to {self.all_subjects}, where replies come")
                )
            elif act == "publish" and subject.lower() == refused:
                receiver.set_exception(NotPermitted(f"{_REFUSES} to publish to {subject}"))

    @contextlib.contextmanager
    def inbox(self, callback: Callback) -> Iterator[str]:
        """Yield a reply subject whose messages go to `callback` until the block is left."""
        subject = self.open(callback)
        try:
            yield subject
        finally:
            self.close(subject)

    @contextlib.contextmanager
    def failing(self, future: "asyncio.Future[Any]", requested: str = "") -> Iterator[None]:
        """Set Unreachable on `future` if the connection is lost within the block.

        `requested`: the subject of its request; NotPermitted is set if this user may not publish to it.
        """
        self._failing[future] = requested
        try:
            yield
        finally:
            del self._failing[future]


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
        state = ConnectionState(on_down=replies.fail_all, on_refused=replies.refuse)
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
        return Subscription(self._link, self._link.subscribe(subject, queue, callback))

    async def request(
        self, subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None, timeout_s: float | None = None
    ) -> Message:
        """Send a request and return the first reply. Cancelling leaves nothing behind here; the request stays sent.

        Raises:
            NoResponders: at once, if there is no subscriber.
            NotPermitted: at once, if this user may not publish to the subject, or receive replies.
            Unreachable: no reply within `timeout_s`, or the connection was lost meanwhile.
        """
        timeout_s = timeout_s or self._timeout_s
        if not self.state.is_up:
            await self.state.wait_up(timeout_s)
        if len(data) > _LARGE_BYTES:
            await self._link.drain(timeout_s)
            if not self.state.is_up:
                await self.state.wait_up(timeout_s)
        future: asyncio.Future[Message] = self._loop.create_future()
        inbox = self.replies.open(future, subject)
        expiry = self._loop.call_later(timeout_s, _expire, future, subject, timeout_s)
        try:
            self._send(subject, data, inbox, headers)
            message = await future
        finally:
            expiry.cancel()
            self.replies.close(inbox)
        if not message.data and message.status == "503":
            raise NoResponders(f"no subscriber on {subject}")
        return message


def _expire(future: "asyncio.Future[Message]", subject: str, timeout_s: float) -> None:
    """Set Unreachable on `future`, which waited `timeout_s` for `subject`, once the socket was read again."""
    asyncio.get_running_loop().call_later(_READ_S, _expire_unread, future, subject, timeout_s)


def _expire_unread(future: "asyncio.Future[Message]", subject: str, timeout_s: float) -> None:
    if not future.done():
        future.set_exception(Unreachable(f"no reply from {subject} within {timeout_s:g} s"))
