"""One connection to NATS: nats-py's connection, reconnect and authentication; our parser, dispatch and writes.

Callbacks are synchronous and run in the read loop: they put a message somewhere and return. Everything written in one
turn of the event loop leaves in one system call. Nothing is buffered while the connection is down: a request waits for
it to come back, a plain publish is dropped (each kind we send that way is repeated or repaired by somebody), and what
was asked before it broke fails at once with Unreachable. So no message is ever sent twice behind its caller's back.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Callable
from typing import Any, Self

from nats.aio.client import Client
from nats.aio.client import __version__ as nats_version
from nats.errors import Error as NatsError
from nats.errors import ProtocolError

from bus.errors import NoResponders, Unreachable
from bus.parser import Callback, Message, Parser, ProtocolBroken, encode
from bus.settings import BusSettings, redacted
from bus.telemetry import logger

log = logger(__name__)

#: Payloads above this wait for the socket's buffer to drain before they are written.
_LARGE_BYTES = 4096


class _Resubscribed:
    """What nats-py must know of a subscription to make it again after a reconnect and to forget it on close."""

    __slots__ = ("_id", "_queue", "_subject")
    _max_msgs = _received = 0
    _wait_for_msgs_task = _message_iterator = _pending_next_msgs_calls = _jsi = None

    def __init__(self, sid: int, subject: str, queue: str) -> None:
        self._id, self._subject, self._queue = sid, subject, queue


class _Seam:
    """Stands where nats-py keeps its parser."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs
        self._lines: list[bytes] = []
        self.parser = Parser(self._lines.append)

    def reset(self) -> None:
        self._lines.clear()
        self.parser.reset()
        self._theirs.reset()

    async def parse(self, data: bytes = b"") -> None:
        try:
            self.parser.feed(data)
        except ProtocolBroken as error:
            log.error("nats.error", error=str(error))
            raise ProtocolError from error
        while self._lines:
            await self._theirs.parse(self._lines.pop(0) + b"\r\n")


class Subscription:
    """Interest in a subject until `close`, across reconnects."""

    __slots__ = ("_connection", "_sid")

    def __init__(self, connection: "Connection", sid: int) -> None:
        self._connection, self._sid = connection, sid

    def close(self, grace_s: float = 0.0) -> None:
        """Idempotent. Messages already on the wire still reach the callback for `grace_s`."""
        self._connection.unsubscribe(self._sid, grace_s)


class Connection:
    """Use `connect` to make one; it is closed by leaving `async with`."""

    def __init__(self, client: Client, seam: _Seam, inbox_prefix: str, timeout_s: float) -> None:
        # Any: the seam is made of nats-py's private parts, which its annotations do not allow us.
        self._client: Any = client
        self._seam, self._timeout_s = seam, timeout_s
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._up = asyncio.Event()
        self._up.set()
        self._tokens = itertools.count()
        self._waiting: dict[str, Callback | asyncio.Future[Message]] = {}
        self._inbox = f"{inbox_prefix}.{secrets.token_hex(8)}."
        #: Set when the connection is closed for good, by us or by a server that refuses us: the process must end.
        self.closed = asyncio.Event()
        #: Counts reconnects; a reader that saw another value may have missed messages.
        self.generation = 0
        self._on_reconnect: dict[int, Callable[[], None]] = {}

    @classmethod
    async def connect(cls, settings: BusSettings, role: str, patience_s: float = 30.0) -> Self:
        """Connect as `role` (`gateway`, `worker`, …: names the connection and its private inbox).

        Raises:
            Unreachable: no server answered within `patience_s`.
        """
        client: Any = Client()
        shared: dict[str, Self] = {}

        async def down() -> None:
            if connection := shared.get("c"):
                connection._went_down()

        async def up() -> None:
            shared["c"]._came_up()

        async def closed() -> None:
            if connection := shared.get("c"):
                connection.closed.set()

        async def trouble(error: Exception) -> None:
            log.debug("nats.error", error=f"{type(error).__name__}: {error}")

        prefix = f"_INBOX_{role}"
        try:
            async with asyncio.timeout(patience_s):
                await client.connect(
                    settings.nats.split(","),
                    name=f"antiphon {role}",
                    inbox_prefix=prefix,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.1,
                    ping_interval=2,
                    max_outstanding_pings=2,
                    connect_timeout=2,
                    disconnected_cb=down,
                    reconnected_cb=up,
                    closed_cb=closed,
                    error_cb=trouble,
                )
        except (TimeoutError, NatsError, OSError) as error:
            raise Unreachable(f"no NATS at {redacted(settings.nats)} within {patience_s:g} s: {error!r}") from error
        seam = _Seam(client._ps)
        client._ps = seam
        connection = shared["c"] = cls(client, seam, prefix, settings.request_timeout_s)
        connection.subscribe(connection._inbox + "*", connection._answered)
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Flush what was written and close. What still waits for an answer gets Unreachable."""
        self._flush()
        self._fail_waiting("connection closed")
        await self._client.close()

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    @property
    def max_payload_bytes(self) -> int:
        return int(self._client.max_payload)

    # Reconnects

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after every reconnect. Returns a function that ends that."""
        key = next(self._tokens)
        self._on_reconnect[key] = callback

        def off() -> None:
            self._on_reconnect.pop(key, None)

        return off

    def _went_down(self) -> None:
        if self._up.is_set() and not self._client.is_closed:
            log.warning("nats.disconnected")
        self._up.clear()
        self._out.clear()
        self._fail_waiting("connection lost")

    def _came_up(self) -> None:
        self.generation += 1
        self._up.set()
        log.info("nats.reconnected", generation=self.generation)
        for callback in list(self._on_reconnect.values()):
            callback()

    def _fail_waiting(self, why: str) -> None:
        for waiting in list(self._waiting.values()):
            if isinstance(waiting, asyncio.Future) and not waiting.done():
                waiting.set_exception(Unreachable(why))

    async def up(self, timeout_s: float) -> None:
        """Wait until connected. Raises Unreachable after `timeout_s`."""
        if self._up.is_set():
            return
        try:
            await asyncio.wait_for(self._up.wait(), timeout_s)
        except TimeoutError:
            raise Unreachable(f"not connected to NATS for {timeout_s:g} s") from None

    # Writing

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._client.is_connected:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._client._transport.write(data)
        self._out.clear()

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send and forget; dropped while the connection is down. Never waits."""
        if self._up.is_set():
            self._write(self._encode(subject, data, reply, headers))

    def _encode(self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> bytes:
        """Refuses what the server would answer by closing the connection."""
        if len(data) > self._client.max_payload:
            raise ValueError(f"{subject}: payload of {len(data)} bytes, the server takes {self._client.max_payload}")
        return encode(subject, data, reply, headers)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the server has seen all that was written. Raises Unreachable."""
        self._flush()
        timeout_s = timeout_s or self._timeout_s
        await self.up(timeout_s)
        try:
            await self._client.flush(timeout_s)
        except (NatsError, OSError) as error:
            raise Unreachable(f"flush: no PONG within {timeout_s:g} s") from error

    # Subscribing

    def subscribe(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """Call `callback` with each message, in order, in the read loop. A callback that raises is logged."""
        client = self._client
        client._sid += 1
        sid: int = client._sid
        client._subs[sid] = _Resubscribed(sid, subject, queue)

        def guarded(message: Message) -> None:
            try:
                callback(message)
            except Exception:
                log.exception("bus.callback_failed", subject=message.subject)

        self._seam.parser.callbacks[b"%d" % sid] = guarded
        if self._up.is_set():
            self._write(b"SUB %b %b %d\r\n" % (subject.encode(), queue.encode(), sid))
        return Subscription(self, sid)

    def unsubscribe(self, sid: int, grace_s: float = 0.0) -> None:
        if self._client._subs.pop(sid, None) is None:
            return
        forget = self._seam.parser.callbacks.pop
        if grace_s > 0:
            self._loop.call_later(grace_s, forget, b"%d" % sid, None)
        else:
            forget(b"%d" % sid)
        if self._up.is_set():
            self._write(b"UNSUB %d\r\n" % sid)

    # Asking

    def _answered(self, message: Message) -> None:
        waiting = self._waiting.get(message.subject[len(self._inbox) :])
        if waiting is None:
            return
        if isinstance(waiting, asyncio.Future):
            if not waiting.done():
                waiting.set_result(message)
        else:
            waiting(message)

    @contextlib.contextmanager
    def inbox(self, callback: Callback) -> Any:
        """Yield a reply subject whose messages go to `callback` until the block is left."""
        token = str(next(self._tokens))
        self._waiting[token] = callback
        try:
            yield self._inbox + token
        finally:
            del self._waiting[token]

    async def request(
        self, subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None, timeout_s: float | None = None
    ) -> Message:
        """Ask and wait for one answer. Cancelling leaves nothing behind but the question.

        Raises:
            NoResponders: at once, if nobody listens.
            Unreachable: no answer within `timeout_s`, or the connection was lost meanwhile.
        """
        timeout_s = timeout_s or self._timeout_s
        await self.up(timeout_s)
        if len(data) > _LARGE_BYTES:
            await self._drain()
        token = str(next(self._tokens))
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[token] = future
        expiry = self._loop.call_later(timeout_s, self._expire, future, subject, timeout_s)
        try:
            self._write(self._encode(subject, data, self._inbox + token, headers))
            message = await future
        finally:
            expiry.cancel()
            del self._waiting[token]
        if message.status == "503" and not message.data:
            raise NoResponders(f"nobody answers on {subject}")
        return message

    @staticmethod
    def _expire(future: "asyncio.Future[Message]", subject: str, timeout_s: float) -> None:
        if not future.done():
            future.set_exception(Unreachable(f"no answer on {subject} within {timeout_s:g} s"))

    async def _drain(self) -> None:
        """Wait for room in the socket. A frozen server ends this by nats-py's pings, within some seconds."""
        try:
            await self._client._transport.drain()
        except OSError as error:
            raise Unreachable(f"connection lost: {error}") from error


def library_version() -> str:
    """Of nats-py, for `antiphon doctor`."""
    return str(nats_version)
