"""Clients that send slowly: a request must arrive in time, and a large body takes of the memory that all clients share.

Everything here is beside the path of a small request, which arrives at once: `gateway.http.connection` calls this only
for a timer, and for a body beyond `SMALL_BODY_BYTES`.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.streams import StreamReader

from bus.errors import Malformed
from bus.telemetry.logging import logger
from gateway.access.addresses import Addresses, site_of
from gateway.access.caller import CALLER, Caller
from gateway.http.large_reads import LargeReads
from gateway.http.open_connections import OpenConnections
from gateway.http.problems import GatewayError, Problem, respond
from gateway.http.sampling import Sample
from gateway.http.slow_clients import SlowClientGuard
from gateway.http.tls import Certificate
from gateway.limits.buffers import Buffers

log = logger(__name__)

#: A body up to this size takes nothing of the shared memory.
SMALL_BODY_BYTES: Final = 64 << 10
#: The slowest that a body may arrive on average, once `body_s` is over.
BODY_BYTES_PER_S: Final = 16 << 10
#: A chunk of one byte is six bytes on the wire. Only extensions of chunks, or trailers, need more than this many for
#: each byte, beyond the bytes that are free.
_FRAMING: Final = 8
_FREE_FRAMING_BYTES: Final = 64 << 10
#: Looks at a body during `body_s`: those at which reading is paused do not count against the client.
_LOOKS: Final = 4
#: A timer may fire early by the clock's resolution.
_TOLERANCE_S: Final = 0.01
#: For a client to read the response to a request that it has not finished to send.
_CLOSE_S: Final = 2.0
#: The same for one that still sends, as many times.
_LINGERS: Final = 5


class TooSlow(GatewayError):
    """The request did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    code = "too_slow"
    retryable = True
    path = "body"


class ReadingTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long a client may take to send; in seconds."""

    #: For a head, from the opening of the connection or from the head's first byte.
    head_s: float = 10.0
    #: For a body, and the time that `BODY_BYTES_PER_S` give to its bytes; between any two of its bytes.
    body_s: float = 30.0
    #: Between two requests.
    keep_alive_s: float = 75.0


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the connections of one server share."""

    #: Seconds that a client may read nothing while data waits for it.
    stalled_reader_s: float = 300.0
    times: ReadingTimes = ReadingTimes()
    open: OpenConnections = msgspec.field(default_factory=lambda: OpenConnections(1 << 30, Addresses(())))
    #: None: the connections are not encrypted.
    tls: Certificate | None = None
    #: Memory for large bodies; None: unlimited.
    buffers: Buffers | None = None
    large_reads: LargeReads = msgspec.field(default_factory=LargeReads)
    #: Writes a problem in the format of the API that a path belongs to.
    refuse: Callable[[str, Problem], web.Response] = lambda _, problem: respond(problem)
    #: Which timeouts are logged.
    timeouts: Sample = msgspec.field(default_factory=Sample)

    @property
    def tls_options(self) -> dict[str, Any]:
        """Arguments of asyncio's for an accepted socket. The time for the first head begins after the handshake."""
        if self.tls is None:
            return {}
        return {"ssl": self.tls.context, "ssl_handshake_timeout": self.times.head_s, "ssl_shutdown_timeout": _CLOSE_S}


class ReadingGuard(SlowClientGuard):
    """A connection whose requests must arrive in time. `Connection` sets the attributes."""

    __slots__ = (
        *("_body", "_body_held", "_head_is_late", "_idle_since", "_is_cut_off", "_is_socket", "_num_answered"),
        *("_raw_bytes", "_read_at", "_read_checked_at", "_read_since", "_read_timer", "_rest", "_shared", "_streamed"),
    )

    _shared: Shared
    #: Body of the newest request, until the request is answered. aiohttp takes a request out of its queue one turn of
    #: the loop before it makes it the current one, and an error in the body may arrive in between.
    _body: StreamReader
    #: Body of a request that was answered before the body had ended: aiohttp drops the rest, for ten seconds.
    _rest: StreamReader
    #: Body that a handler reads as it comes.
    _streamed: StreamReader
    #: Owner and number of the bytes that are taken from the shared memory.
    _body_held: tuple[str, int]
    #: Bytes of the body on the wire, those beside its head not counted.
    _raw_bytes: int
    #: Loop time at which the head or the body that is being read began; 0: none is.
    _read_since: float
    #: Loop time of its last byte; 0: no byte has come over this connection.
    _read_at: float
    _read_checked_at: float
    _read_timer: asyncio.TimerHandle | None
    _head_is_late: bool
    #: Whether a body was refused while its client was sending.
    _is_cut_off: bool
    _is_socket: bool
    #: Loop time of the opening, or of the last response's end.
    _idle_since: float
    #: Requests that were answered.
    _num_answered: int

    @property
    def has_request(self) -> bool:
        """Whether a request is in progress, a WebSocket included."""
        return self._request_count > self._num_answered

    @property
    def idle_since(self) -> float | None:
        """Loop time since which it has had no request; None: it has one, or has just been accepted."""
        return None if self.has_request or self.transport is None else self._idle_since

    def watch_reading(self) -> None:
        """Check in time that the rest has arrived of what is being read."""
        self._read_checked_at = self._loop.time()
        wait_s = self._shared.times.head_s if self._body.is_eof() else self._shared.times.body_s / _LOOKS
        self._read_timer = self._loop.call_later(wait_s, self.check_reading)

    def body_grew(self) -> None:
        """Bound the bytes of a large body, and those around it."""
        body, transport = self._body, self.transport
        if transport is None or self._is_cut_off:
            return
        # While reading is paused, bytes wait that the parser has not seen.
        if self._raw_bytes > _FRAMING * body.total_raw_bytes + _FREE_FRAMING_BYTES and transport.is_reading():
            self._refuse_body(
                Malformed(
                    f"the body: {self._raw_bytes} bytes came for {body.total_raw_bytes} of its own; the extensions of "
                    f"its chunks and its trailers may have {_FREE_FRAMING_BYTES} bytes"
                )
            )
            return
        buffers = self._shared.buffers
        owner, held = self._body_held
        if buffers is None or body.total_bytes <= SMALL_BODY_BYTES or body is self._streamed:
            return
        owner = owner or _owner_of(self._current_request, self.peername)
        refused = buffers.take_now(owner, body.total_bytes - held)
        if refused is None:
            self._body_held = (owner, body.total_bytes)
        else:
            self._refuse_body(refused)

    def release_body(self) -> None:
        """Give back the shared memory of the body."""
        owner, held = self._body_held
        self._body_held = ("", 0)
        if self._shared.buffers is not None:
            self._shared.buffers.give_back(owner, held)

    async def linger(self) -> None:
        """Let the client read its response: what it still sends would reset the connection. Cancelled if it leaves."""
        self._rest._buffer.clear()  # noqa: SLF001 - its error keeps everything from reading it
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
        for _ in range(_LINGERS):
            await asyncio.sleep(_CLOSE_S)
            if self._loop.time() - self._read_at > _CLOSE_S:
                return

    def _refuse_body(self, error: Exception) -> None:
        self._is_cut_off = True
        self._body.set_exception(error)
        self._body.feed_eof()
        self.close()

    def check_reading(self) -> None:
        """For the timer: refuse a request that is late."""
        self._read_timer = None
        if self.transport is None or not self._read_since:
            return
        now = self._loop.time()
        if not self._body.is_eof():
            self._check_body(now)
            return
        if self.has_request:
            self._read_since = now  # a head may wait for the response to the request before
        left_s = self._read_since + self._shared.times.head_s - now
        if left_s > _TOLERANCE_S:
            self._read_timer = self._loop.call_later(left_s, self.check_reading)
            return
        self._log_timeout("head", now)
        if not self._read_at:
            self.force_close()
            return
        self._head_is_late = True
        # No head has this byte: the parser gives up, and `handle_error` makes the response.
        self.data_received(b"\0")
        self._loop.call_later(_CLOSE_S, self.force_close)

    def _check_body(self, now: float) -> None:
        assert self.transport is not None
        if not self.transport.is_reading():
            self._read_since += now - self._read_checked_at
            self._read_at = now
        self._read_checked_at = now
        body_s = self._shared.times.body_s
        allowed_s = body_s + self._raw_bytes / BODY_BYTES_PER_S
        left_s = min(self._read_since + allowed_s, self._read_at + body_s) - now
        if left_s > _TOLERANCE_S:
            self._read_timer = self._loop.call_later(min(left_s, body_s / _LOOKS), self.check_reading)
            return
        self._log_timeout("body", now)
        self._refuse_body(
            TooSlow(
                f"the body: {self._body.total_raw_bytes} bytes came in {now - self._read_since:.3g} s; a body may take "
                f"{body_s:g} s and a second for each {BODY_BYTES_PER_S} bytes, and stand still for {body_s:g} s"
            )
        )

    def _log_timeout(self, part: str, now: float) -> None:
        waited_s = round(now - self._read_since, 3)
        omitted = self._shared.timeouts.due(now)
        if omitted is None:
            log.debug("request.timed_out", part=part, waited_s=waited_s)
        else:
            log.info("request.timed_out", part=part, waited_s=waited_s, omitted=omitted)


def _owner_of(request: web.BaseRequest | None, peer: object) -> str:
    """Whose share of the memory a body takes: its caller's, or the peer's while no caller is known."""
    if isinstance(request, web.Request) and CALLER in request:
        return request[CALLER].owner
    return Caller(address=site_of(peer[0]) if isinstance(peer, tuple) else "").owner
