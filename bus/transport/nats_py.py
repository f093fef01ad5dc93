"""nats-py with our own parser, dispatch and writes. The only module that uses private attributes of nats-py.

nats-py connects, authenticates, pings and reconnects; `bus.transport.parser` reads its bytes, and our messages go
straight to its socket. pyproject.toml pins the minor version of nats-py, and a test names every private attribute used
here. `nats_py_public` does without them.
"""

import asyncio
from functools import partial
from typing import Any, Self, cast

from nats.aio.client import Client

from bus.errors import BusError, Unreachable
from bus.settings import BusSettings
from bus.telemetry.logging import logger
from bus.transport.nats_py_public import connect_client
from bus.transport.parser import Callback, PacketWriter, ParserAdapter
from bus.transport.state import ConnectionState

log = logger(__name__)


class DirectClient(Client):
    """nats-py's client, which drops the socket of a server that does not answer instead of waiting for it."""

    def abort(self) -> None:
        """Drop the socket and everything that it has not written yet."""
        # The transport of a WebSocket has no such writer, and closes on its own timeout.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _attempt_reconnect(self) -> None:
        # Closing waits until everything is written, which never happens while the server is frozen.
        self.abort()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, server: Any) -> None:
        # A server that accepted the last attempt and then sent nothing still holds its socket, which nats-py forgets.
        self.abort()
        await super()._connect_to_server(server)

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except RuntimeError as error:
            # uvloop raises it on a write into a socket that has just died. nats-py expects asyncio's OSError: at this
            # it would give up, and in a reconnect for good.
            raise ConnectionResetError(f"the server hung up: {error}") from error


class Resubscribed:
    """The attributes of a subscription that nats-py reads to repeat it after a reconnect and to forget it on close."""

    __slots__ = ("_id", "_queue", "_subject")
    _max_msgs = 0
    _received = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None
    _jsi = None

    def __init__(self, sid: int, subject: str, queue: str) -> None:
        self._id = sid
        self._subject = subject
        self._queue = queue


class DirectLink:
    """A client of nats-py whose socket we write, and whose messages our parser dispatches.

    All writes of one turn of the event loop leave in one system call.
    """

    #: Whether a subscription must reach other servers of a cluster before it takes effect there.
    is_clustered = False

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        #: Any because most attributes used are private, and not in its annotations.
        client = cast("Any", DirectClient())
        adapter = ParserAdapter(client._ps)
        client._ps = adapter
        self._client = client
        self._callbacks = adapter.parser.callbacks
        self._loop = asyncio.get_running_loop()
        self._writer = PacketWriter(client, partial(getattr, client, "_transport"))
        self.send = self._writer.publish
        #: SUBs and UNSUBs issued while down. nats-py repeats subscriptions before it reports the reconnect: one issued
        #: in between would be unknown to the server until the next reconnect.
        self._late: list[bytes] = []

    @classmethod
    async def connect(
        cls, settings: BusSettings, name: str, inbox_prefix: str, patience_s: float, state: ConnectionState
    ) -> Self:
        """Connect, and report to `state` from then on. Raises as `connect_client` does."""
        link = cls(state)
        try:
            await connect_client(
                link._client,
                settings,
                name,
                inbox_prefix,
                patience_s,
                on_down=link._went_down,
                on_up=link._came_up,
                on_closed=state.closed.set,
                on_refused=state.set_refused,
            )
        except BusError:
            link._client.abort()
            raise
        link.is_clustered = bool(link._client._server_info.get("cluster"))
        return link

    def subscribe(self, subject: str, queue: str, callback: Callback) -> int:
        """Call `callback` with each message; returns an id for `unsubscribe`. Survives reconnects."""
        client = self._client
        client._sid += 1
        sid: int = client._sid
        client._subs[sid] = Resubscribed(sid, subject, queue)
        self._callbacks[b"%d" % sid] = callback
        self._command(b"SUB %b %b %d\r\n" % (subject.encode(), queue.encode(), sid))
        return sid

    def unsubscribe(self, sid: int, grace_s: float) -> None:
        """End a subscription; idempotent. Messages on the wire still reach the callback for `grace_s`."""
        if self._client._subs.pop(sid, None) is None:
            return
        if grace_s > 0:
            self._loop.call_later(grace_s, self._callbacks.pop, b"%d" % sid, None)
        else:
            self._callbacks.pop(b"%d" % sid, None)
        self._command(b"UNSUB %d\r\n" % sid)

    async def ping(self, seen: "asyncio.Future[None]", timeout_s: float) -> None:
        """Set a result on `seen` once the server has processed everything sent before."""
        self._writer.flush()
        pong: asyncio.Future[Any] = self._loop.create_future()
        # The caller waits for another future than nats-py's: its read loop ends on one that was cancelled before PONG.
        pong.add_done_callback(lambda _: None if seen.done() else seen.set_result(None))
        await self._client._send_ping(pong)

    async def drain(self, timeout_s: float) -> None:
        """Wait for room in the socket's buffer. Raises Unreachable."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._client._transport.drain()
        except TimeoutError:
            raise Unreachable(f"the server read nothing for {timeout_s:g} s") from None
        except OSError as error:
            raise Unreachable(f"connection lost: {error}") from error

    async def close(self, timeout_s: float) -> None:
        """Write pending data and close for good; after `timeout_s` drop the socket instead."""
        self._writer.flush()
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.close()
        except (TimeoutError, OSError) as error:
            log.debug("nats.error", error=f"close: {type(error).__name__}: {error}")
            self._client.abort()

    def _command(self, line: bytes) -> None:
        if not self._state.is_up:
            self._late.append(line)
            return
        self._writer.send(line)

    def _went_down(self) -> None:
        if self._state.is_up and not self._client.is_closed:
            log.warning("nats.disconnected")
        self._writer.clear()
        self._late.clear()
        self._state.set_down("connection lost")

    def _came_up(self) -> None:
        for line in self._late:
            self._writer.send(line)
        self._late.clear()
        self._state.set_up()
