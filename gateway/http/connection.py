"""One connection to a client, and the listener that accepts it.

A request that is no HTTP, or exceeds the limits of the parser, is refused (`gateway.http.refusing`). Few bytes wait
for a slow client, here and in the kernel, and one that stops reading is reset after a while
(`gateway.http.slow_clients`); a request must arrive in time (`gateway.http.reading`). How many connections there may be
is the matter of `gateway.http.open_connections`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD

from bus.telemetry.logging import logger
from gateway.access.addresses import site_of
from gateway.http.frames import MaskedFrames
from gateway.http.problems import describe_http
from gateway.http.reading import SMALL_BODY_BYTES, Shared
from gateway.http.refusing import RefusingConnection
from gateway.http.unreadable import MAX_HEADER_BYTES, MAX_HEADERS, MAX_PATH_BYTES

log = logger(__name__)

#: Unsent bytes in the kernel. By default it holds megabytes for each client, which our own limits do not see.
_UNSENT_BYTES: Final = 128 << 10
#: Connections accepted before other work gets a turn.
_ACCEPTED_AT_ONCE: Final = 32
#: Until a listener without a free descriptor tries again.
_PAUSE_S: Final = 0.05


class _Counted(RefusingConnection):
    """One of the open connections, from `enter` to `leave`."""

    __slots__ = ("_site",)

    _site: str

    def enter(self, site: str) -> None:
        """Count among the open connections of `site`."""
        self._site = site
        self._shared.open.by_site.setdefault(site, {})[self] = None
        self._shared.open.total += 1

    def leave(self) -> None:
        """Count no more among the open connections."""
        members = self._shared.open.by_site.get(self._site, {})
        if self not in members:
            return
        del members[self]
        if not members:
            del self._shared.open.by_site[self._site]
        self._shared.open.total -= 1
        self._shared.open.spare.discard(self)

    def evict(self) -> None:
        """Close the connection for another one."""
        self.leave()
        self.force_close()


class Connection(_Counted):
    """aiohttp's connection, with problems as responses to data that its parser refuses, and times for its client."""

    __slots__ = ()

    def __init__(self, server: web.Server, shared: Shared, site: str, **more: Any) -> None:
        """`site`: the account of the client's address. The connection is one of `shared.open` from now on."""
        super().__init__(server, keepalive_timeout=shared.times.keep_alive_s, **more)
        self._shared = shared
        self._patience_s = shared.stalled_reader_s
        self._write_timer = None
        self._read_timer = None
        self._body = EMPTY_PAYLOAD
        self._streamed = EMPTY_PAYLOAD
        self._body_held = ("", 0)
        self._raw_bytes = 0
        self._read_since = 0.0
        self._read_at = 0.0
        self._head_is_late = False
        self._is_cut_off = False
        self._is_socket = False
        self._rest = EMPTY_PAYLOAD
        self._num_answered = 0
        self._idle_since = 0.0
        self.enter(site)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As aiohttp's; bounds the bytes that wait, and the time for the first head."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is one, but no subclass
        # `pause_writing` is called whenever bytes wait here, and writers wait until none do.
        # A transport with TLS pauses as soon as it has `high` bytes, others with more: 0 would pause it for ever.
        transport.set_write_buffer_limits(high=0 if self._shared.tls is None else 1)
        _bound_kernel(transport)
        super().connection_made(transport)
        self._idle_since = self._read_since = self._read_checked_at = self._loop.time()
        self._read_timer = self._loop.call_later(self._shared.times.head_s, self.check_reading)

    def connection_lost(self, exc: BaseException | None) -> None:
        """As aiohttp's; stops watching."""
        for timer in (self._read_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        if self._body_held[1]:
            self.release_body()
        self.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As aiohttp's; a handler that reads a body which turns out to be no HTTP gets the error at once.

        aiohttp itself reports the error once the request has been answered: the handler would wait for the rest of the
        body.
        """
        count = self._request_count
        was_in_body = not (self._body.is_eof() and self._rest.is_eof())
        super().data_received(data)
        new = self._request_count - count
        bodies = [self._body, *(body for _, body in list(self._messages)[len(self._messages) - new :])]
        self._body = bodies[-1]
        for body in bodies:
            if body.is_eof():
                continue
            if body is not self._body:  # another body follows although this one has not ended: an error
                body.set_exception(web.RequestPayloadError("no HTTP"))
            if body.exception() is not None:
                body.feed_eof()
                self.close()
        self._note_progress(len(data), new, was_in_body=was_in_body)

    def _note_progress(self, num_bytes: int, num_new: int, *, was_in_body: bool) -> None:
        """Note what is being read now, after `num_bytes` that brought `num_new` heads."""
        body = self._body
        if not body.is_eof():
            self._read_at = self._loop.time()
            if num_new:
                self._read_since = self._read_at
                self._raw_bytes = 0
            else:
                self._raw_bytes += num_bytes
        elif num_new or was_in_body:
            self._read_since = 0.0
        elif num_bytes and not self._is_socket:
            self._read_at = self._loop.time()
            self._read_since = self._read_since or self._read_at
        if body.total_bytes > SMALL_BODY_BYTES or self._raw_bytes > SMALL_BODY_BYTES:
            self.body_grew()
        if self._read_since and self._read_timer is None:
            self.watch_reading()
        if num_bytes >= SMALL_BODY_BYTES:
            self._shared.large_reads.pause(self)

    def stream_body(self) -> None:
        """The handler reads the body as it comes: at most a few pieces of it are in memory, whatever its size.

        Its bytes are counted no more, so the handler holds a buffer for those pieces. Its times stay.
        """
        self._streamed = self._body
        if self._body_held[1]:
            self.release_body()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp's; no handler reads the rest of the body any more."""
        if self._body is request.content:
            self._rest = self._body
            self._body = self._streamed = EMPTY_PAYLOAD
            self._read_since = 0.0
            self._raw_bytes = 0
        if isinstance(resp, web.HTTPException) and isinstance(request, web.Request):
            # One of aiohttp itself, which looks at `Expect` before any code of ours.
            resp = self.refuse(request, describe_http(resp, request), None)
        try:
            finished = await super().finish_response(request, resp, start_time)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: the response itself could not be written
            finished = await super().finish_response(request, self.handle_error(request, 500, error), start_time)
        finally:
            self._num_answered += 1
            self._idle_since = self._loop.time()
            if self._body_held[1]:
                self.release_body()
            if (cause := request.content.exception()) is not None:
                cause.with_traceback(None)  # it has the handler's variables, and so the body: a cycle of megabytes
        if self._is_cut_off:
            await self.linger()
        return finished

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """As aiohttp's, once the request has become a WebSocket: its frames have no time to keep here."""
        self._is_socket = True
        self._read_since = 0.0
        super().set_parser(cast(Any, MaskedFrames(parser)), data_received_cb)


class Listener:
    """Accepts connections as far as the open ones leave room: with asyncio's server, a crowd takes all descriptors."""

    def __init__(self, sockets: Sequence[socket.socket], server: web.Server, shared: Shared) -> None:
        """Accept from `sockets`, which listen and do not block, until `close`."""
        self.sockets = sockets
        self._server = server
        self._shared = shared
        self._event_loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._paused: dict[int, asyncio.TimerHandle] = {}
        for listening in sockets:
            self._event_loop.add_reader(listening.fileno(), self._accept, listening)

    def close(self) -> None:
        """Accept no more; open connections stay."""
        for timer in self._paused.values():
            timer.cancel()
        for listening in self.sockets:
            self._event_loop.remove_reader(listening.fileno())
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        shared_open = self._shared.open
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                peer, (address, *_) = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            site = address if "." in address else site_of(address)
            if shared_open.total >= shared_open.num_calm and shared_open.admit(site, address) is not None:
                peer.close()
                continue
            peer.setblocking(False)
            connection = Connection(
                self._server,
                self._shared,
                site,
                loop=self._event_loop,
                access_log=None,
                max_line_size=MAX_PATH_BYTES,
                max_field_size=MAX_HEADER_BYTES,
                max_headers=MAX_HEADERS,
            )
            if shared_open.total > shared_open.capacity:
                shared_open.spare.add(connection)
            beginning = self._event_loop.create_task(self._begin(connection, peer))
            self._beginning.add(beginning)
            beginning.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: Connection, peer: socket.socket) -> None:
        tls = {} if self._shared.tls is None else self._shared.tls_options
        try:
            await self._event_loop.connect_accepted_socket(lambda: connection, peer, **tls)
        except OSError:  # it was reset in between, or its handshake failed
            connection.leave()
            peer.close()

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Wait a moment for a descriptor: other parts of the process have taken more than is kept for them."""
        log.error("listener.paused", error=str(error), open=self._shared.open.total)
        self._shared.open.evict_any()
        number = listening.fileno()
        self._event_loop.remove_reader(number)
        self._paused[number] = self._event_loop.call_later(
            _PAUSE_S, self._event_loop.add_reader, number, self._accept, listening
        )


def _bound_kernel(transport: asyncio.Transport) -> None:
    peer, option = transport.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if peer is None or option is None:  # without the option the kernel's own limits apply
        return
    with contextlib.suppress(OSError):  # the client has hung up already
        peer.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)
