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
from collections.abc import Callable, Iterator
from typing import Any, Self

from bus.errors import NoResponders, Unreachable
from bus.settings import BusSettings
from bus.telemetry.logging import logger
from bus.transport.nats_py import Resubscribed, Seam, connect, hook
from bus.transport.parser import Callback, Message, encode

log = logger(__name__)

#: Payloads above this wait for the socket's buffer to drain before they are written.
_LARGE_BYTES = 4096


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

    def __init__(self, client: Any, seam: Seam, inbox_prefix: str, timeout_s: float) -> None:
        self._client, self._seam, self._timeout_s = client, seam, timeout_s
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._up = asyncio.Event()
        self._up.set()
        self._tokens = itertools.count()
        self._waiting: dict[str, Callback | asyncio.Future[Message]] = {}
        #: Fail when the connection does, like the futures of `_waiting`.
        self._failing: set[asyncio.Future[Any]] = set()
        #: SUBs and UNSUBs made while down. nats-py repeats subscriptions before it tells us that it is up again: one
        #: made in between would stay unknown to the server until the next reconnect.
        self._late: list[bytes] = []
        self._inbox = f"{inbox_prefix}.{secrets.token_hex(8)}."
        #: Whether a subscription must travel to other servers before it counts there.
        self.is_clustered = bool(client._server_info.get("cluster"))
        #: Set when the connection is closed for good, by us or by a server that refuses us: the process must end.
        self.closed = asyncio.Event()
        #: Counts reconnects; a reader that saw another value may have missed messages. And the last one's loop time.
        self.generation, self.back_at = 0, float("-inf")
        self._on_reconnect: dict[int, Callable[[], None]] = {}

    @classmethod
    async def connect(cls, settings: BusSettings, role: str, patience_s: float = 30.0) -> Self:
        """Connect as `role` (`gateway`, `worker`, …: names the connection and its private inbox).

        Raises:
            Unreachable: no server answered within `patience_s`.
        """
        inbox_prefix = f"_INBOX_{role}"
        client, seam = await connect(settings, f"antiphon {role}", inbox_prefix, patience_s)
        connection = cls(client, seam, inbox_prefix, settings.request_timeout_s)
        hook(client, connection._went_down, connection._came_up, connection.closed.set)
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
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.close()
        except (TimeoutError, OSError) as error:
            log.debug("nats.error", error=f"close: {type(error).__name__}: {error}")
            self._client.abort()
        self._up.clear()
        self.closed.set()

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
        self._late.clear()
        self._fail_waiting("connection lost")

    def _came_up(self) -> None:
        self.generation, self.back_at = self.generation + 1, self._loop.time()
        self._up.set()
        for command in self._late:
            self._write(command)
        self._late.clear()
        log.info("nats.reconnected", generation=self.generation)
        for callback in list(self._on_reconnect.values()):
            callback()

    def _fail_waiting(self, why: str) -> None:
        for waiting in [*self._waiting.values(), *self._failing]:
            if isinstance(waiting, asyncio.Future) and not waiting.done():
                waiting.set_exception(Unreachable(why))

    @contextlib.contextmanager
    def fails_with_connection(self, future: "asyncio.Future[Any]") -> Iterator[None]:
        """Losing the connection within the block sets Unreachable on `future`."""
        self._failing.add(future)
        try:
            yield
        finally:
            self._failing.discard(future)

    async def up(self, timeout_s: float) -> None:
        """Wait until connected. Raises Unreachable after `timeout_s`, and at once if closed for good."""
        if self._up.is_set():
            return
        if self.closed.is_set():
            raise Unreachable("the connection to NATS is closed")
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
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
            with contextlib.suppress(RuntimeError):  # uvloop: the socket has just died, and the library will be told
                self._client._transport.write(data)
        self._out.clear()

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send and forget; dropped while the connection is down. Never waits."""
        if self._up.is_set():
            self._write(encode(subject, data, reply, headers, self._client.max_payload))

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the server has seen all that was written. Raises Unreachable."""
        self._flush()
        timeout_s = timeout_s or self._timeout_s
        await self.up(timeout_s)
        pong: asyncio.Future[Any] = self._loop.create_future()
        seen: asyncio.Future[None] = self._loop.create_future()
        # We wait for another future than nats-py's: its read loop dies of one that was cancelled before the PONG came.
        pong.add_done_callback(lambda _: None if seen.done() else seen.set_result(None))
        with self.fails_with_connection(seen):
            try:
                async with asyncio.timeout(timeout_s):
                    await self._client._send_ping(pong)
                    await seen
            except TimeoutError:
                raise Unreachable(f"flush: no PONG within {timeout_s:g} s") from None

    # Subscribing

    def subscribe(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """Call `callback` with each message, in order, in the read loop. A callback that raises is logged."""
        client = self._client
        client._sid += 1
        sid: int = client._sid
        client._subs[sid] = Resubscribed(sid, subject, queue)

        def guarded(message: Message) -> None:
            try:
                callback(message)
            except Exception:
                log.exception("bus.callback_failed", subject=message.subject)

        self._seam.parser.callbacks[b"%d" % sid] = guarded
        self._command(b"SUB %b %b %d\r\n" % (subject.encode(), queue.encode(), sid))
        return Subscription(self, sid)

    def unsubscribe(self, sid: int, grace_s: float = 0.0) -> None:
        if self._client._subs.pop(sid, None) is None:
            return
        forget = self._seam.parser.callbacks.pop
        if grace_s > 0:
            self._loop.call_later(grace_s, forget, b"%d" % sid, None)
        else:
            forget(b"%d" % sid)
        self._command(b"UNSUB %d\r\n" % sid)

    def _command(self, line: bytes) -> None:
        if self._up.is_set():
            self._write(line)
        else:
            self._late.append(line)

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
            await self._drain(timeout_s)
            await self.up(timeout_s)
        token = str(next(self._tokens))
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[token] = future
        expiry = self._loop.call_later(timeout_s, self._expire, future, subject, timeout_s)
        try:
            self._write(encode(subject, data, self._inbox + token, headers, self._client.max_payload))
            message = await future
        finally:
            expiry.cancel()
            del self._waiting[token]
        if message.status == "503" and not message.data:
            raise NoResponders(f"nobody answers on {subject}")
        return message

    def _expire(self, future: "asyncio.Future[Message]", subject: str, timeout_s: float, is_read: bool = False) -> None:
        if not is_read:  # of a process that stood still, the answer may lie in its socket: that is read before
            self._loop.call_later(0.01, self._expire, future, subject, timeout_s, True)
        elif not future.done():
            future.set_exception(Unreachable(f"no answer on {subject} within {timeout_s:g} s"))

    async def _drain(self, timeout_s: float) -> None:
        """Wait for room in the socket. Raises Unreachable."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._client._transport.drain()
        except TimeoutError:
            raise Unreachable(f"the server took nothing for {timeout_s:g} s") from None
        except OSError as error:
            raise Unreachable(f"connection lost: {error}") from error
