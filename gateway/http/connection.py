"""One connection to a client: refuses data that is no HTTP, or exceeds the limits of its parser, with a problem.

Such a request reaches no handler. Its path, and so its API, is not known: the response has the native API's format. It
names the limit and never the value, which may be a key.

Few bytes wait for a slow client, here and in the kernel, and one that stops reading is reset after a while
(`gateway.http.slow_clients`); a request must arrive in time (`gateway.http.reading`).
"""

import asyncio
import contextlib
import socket
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD

from bus.telemetry.logging import logger
from gateway.http.headers import REQUEST_ID
from gateway.http.reading import SMALL_BODY_BYTES, ReadingGuard, Shared
from gateway.http.unreadable import MAX_HEADER_BYTES, MAX_HEADERS, MAX_PATH_BYTES, describe_unreadable, late_head

log = logger(__name__)

#: Unsent bytes in the kernel. By default it holds megabytes for each client, which our own limits do not see.
_UNSENT_BYTES: Final = 128 << 10


class Connection(ReadingGuard):
    """aiohttp's connection, with problems as responses to data that its parser refuses, and times for its client."""

    __slots__ = ()

    def __init__(self, server: web.Server, shared: Shared, **more: Any) -> None:
        super().__init__(server, keepalive_timeout=shared.times.keep_alive_s, **more)
        self._shared = shared
        self._patience_s = shared.stalled_reader_s
        self._write_timer = None
        self._read_timer = None
        self._body = EMPTY_PAYLOAD
        self._body_held = ("", 0)
        self._raw_bytes = 0
        self._read_since = 0.0
        self._read_at = 0.0
        self._head_is_late = False
        self._is_cut_off = False
        self._is_socket = False
        self._rest = EMPTY_PAYLOAD
        self._num_answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As aiohttp's; bounds the bytes that wait, and the time for the first head."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is one, but no subclass
        # `pause_writing` is called whenever bytes wait here, and writers wait until none do.
        transport.set_write_buffer_limits(high=0)
        _bound_kernel(transport)
        super().connection_made(transport)
        self._read_since = self._loop.time()
        self.watch_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        """As aiohttp's; stops watching."""
        for timer in (self._read_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        if self._body_held[1]:
            self.release_body()
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

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp's; no handler reads the rest of the body any more."""
        if self._body is request.content:
            self._rest = self._body
            self._body = EMPTY_PAYLOAD
            self._read_since = 0.0
            self._raw_bytes = 0
        try:
            finished = await super().finish_response(request, resp, start_time)
        finally:
            self._num_answered += 1
            if self._body_held[1]:
                self.release_body()
        if self._is_cut_off:
            await self.linger()
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to a request that could not be read; it closes the connection.

        Raises ConnectionError if a response has begun: it can only be cut.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        problem = late_head(self._shared.times.head_s) if self._head_is_late else describe_unreadable(exc)
        quoted = uuid.uuid4().hex
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("http.failed", method="", path="", request=quoted, exc_info=exc)
        else:
            log.info("http.refused", status=problem.status, code=problem.code, path="", request=quoted)
        response = self._shared.refuse(request.path, problem)
        response.headers[REQUEST_ID] = quoted
        response.force_close()
        return response

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """As aiohttp's, once the request has become a WebSocket: its frames have no time to keep here."""
        self._is_socket = True
        self._read_since = 0.0
        super().set_parser(parser, data_received_cb)


def connections(server: web.Server, shared: Shared) -> Callable[[], Connection]:
    """A factory of protocols for `server`."""
    loop = asyncio.get_running_loop()

    def connect() -> Connection:
        return Connection(
            server,
            shared,
            loop=loop,
            access_log=None,
            max_line_size=MAX_PATH_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    return connect


def _bound_kernel(transport: asyncio.Transport) -> None:
    peer, option = transport.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if peer is None or option is None:  # without the option the kernel's own limits apply
        return
    with contextlib.suppress(OSError):  # the client has hung up already
        peer.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)
