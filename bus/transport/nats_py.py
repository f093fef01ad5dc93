"""Where our parser and dispatch are put into nats-py's connection. The only module that touches its private parts.

nats-py connects, authenticates, pings and reconnects; what it reads goes to `bus.transport.parser`, what we write
goes straight to its socket. Held to one minor version of nats-py in pyproject.toml.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.client import __version__ as nats_version
from nats.errors import Error as NatsError
from nats.errors import ProtocolError

from bus.errors import NoServer, Unreachable
from bus.settings import BusSettings, redacted
from bus.telemetry.logging import logger
from bus.transport.parser import Parser, ProtocolBroken

log = logger(__name__)


class SeamClient(Client):
    def abort(self) -> None:
        """Drop the socket and what it has not written yet."""
        # A WebSocket's transport has no such writer, and closes on its own timeout.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _attempt_reconnect(self) -> None:
        # Closing waits until everything is written, which a frozen server never lets happen.
        self.abort()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, server: Any) -> None:
        # A server that took the last attempt and then said nothing still holds its socket, which nats-py forgets here.
        self.abort()
        await super()._connect_to_server(server)

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except RuntimeError as error:
            # What uvloop says to who writes into a socket that has just died. nats-py expects asyncio's OSError: at
            # this it would give up, in a reconnect for good.
            raise ConnectionResetError(f"the server hung up: {error}") from error


class Resubscribed:
    """What nats-py must know of a subscription to make it again after a reconnect and to forget it on close."""

    __slots__ = ("_id", "_queue", "_subject")
    _max_msgs = _received = 0
    _wait_for_msgs_task = _message_iterator = _pending_next_msgs_calls = _jsi = None

    def __init__(self, sid: int, subject: str, queue: str) -> None:
        self._id, self._subject, self._queue = sid, subject, queue


class Seam:
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


async def connect(settings: BusSettings, name: str, inbox_prefix: str, patience_s: float) -> tuple[Any, Seam]:
    """A connected client and the seam in it. After `patience_s` raises NoServer, or Unreachable if one refused us.

    The client is Any: what we use of it is private, which its annotations do not allow us.
    """
    client: Any = SeamClient()
    refusal = ""

    async def trouble(error: Exception) -> None:
        nonlocal refusal
        if isinstance(error, NatsError):  # a server's own words, of a password for one; it is asked again all the same
            refusal = str(error)
        log.debug("nats.error", error=f"{type(error).__name__}: {error}")

    try:
        async with asyncio.timeout(patience_s):
            await client.connect(
                settings.nats.split(","),
                name=name,
                inbox_prefix=inbox_prefix,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,
                ping_interval=2,
                max_outstanding_pings=2,
                connect_timeout=2,
                error_cb=trouble,
            )
    except (TimeoutError, NatsError, OSError) as error:
        client.abort()
        at = redacted(settings.nats)
        if refusal:
            raise Unreachable(f"NATS at {at} takes no connection of ours: {refusal}") from error
        reason = "" if isinstance(error, TimeoutError) else f": {error}"
        raise NoServer(f"no NATS at {at} within {patience_s:g} s{reason}") from error
    seam = Seam(client._ps)
    client._ps = seam
    return client, seam


def hook(client: Any, down: Callable[[], None], up: Callable[[], None], closed: Callable[[], object]) -> None:
    """Have these called when the connection breaks, is back, and is closed for good."""

    def calling(function: Callable[[], object]) -> Callable[[], Awaitable[None]]:
        async def callback() -> None:
            function()

        return callback

    client._disconnected_cb, client._reconnected_cb, client._closed_cb = map(calling, (down, up, closed))


def library_version() -> str:
    """Of nats-py, for `antiphon doctor`."""
    return str(nats_version)
