"""One connection to a client: refuses data that is no HTTP, or exceeds the limits of its parser, with a problem.

Such a request reaches no handler. Its path, and so its API, is not known: the response has the native API's format. It
names the limit and never the value, which may be a key.

Few bytes wait for a slow client, here and in the kernel, and one that stops reading is reset after a while.
"""

import asyncio
import contextlib
import socket
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import http_exceptions, web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from bus.telemetry.logging import logger
from gateway.access.caller import CALLER
from gateway.http.headers import REQUEST_ID
from gateway.http.problems import INTERNAL, Problem, respond
from gateway.http.responses import JOB, reset

log = logger(__name__)

#: Limits of the path with its query, and of a header (its value; aiohttp adds the name of the first one alone). They
#: differ: the limit in an error of aiohttp shows which of the two was exceeded.
MAX_PATH_BYTES: Final = 8190
MAX_HEADER_BYTES: Final = 8192
MAX_HEADERS: Final = 128
#: Unsent bytes in the kernel. By default it holds megabytes for each client, which our own limits do not see.
_UNSENT_BYTES: Final = 128 << 10
#: Looks at the connection during `patience_s`.
_LOOKS: Final = 4
_TOO_MANY: Final = "Too many headers received"


class SlowClientGuard(web.RequestHandler):
    """A connection that is reset once none of the bytes that wait has been sent for `patience_s` seconds."""

    __slots__ = ("_moved_at", "_patience_s", "_timer", "_waiting_bytes")

    def __init__(self, server: web.Server, *, patience_s: float, **more: Any) -> None:
        super().__init__(server, **more)
        self._patience_s = patience_s
        self._timer: asyncio.TimerHandle | None = None
        self._moved_at = 0.0
        self._waiting_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As aiohttp's; bounds the bytes that wait."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is one, but no subclass
        # `pause_writing` is called whenever bytes wait here, and writers wait until none do.
        transport.set_write_buffer_limits(high=0)
        _bound_kernel(transport)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """As aiohttp's; starts to watch the bytes that wait."""
        super().pause_writing()
        self._moved_at = self._loop.time()
        self._look_later()

    def resume_writing(self) -> None:
        """As aiohttp's; no bytes wait any more."""
        self._stop_looking()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """As aiohttp's; stops watching."""
        self._stop_looking()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        assert self.transport is not None
        self._waiting_bytes = self.transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._patience_s / _LOOKS, self._check_progress)

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_progress(self) -> None:
        transport, now = self.transport, self._loop.time()
        if transport is None:
            return
        # Writers wait meanwhile; only a ping or a comment now and then adds bytes.
        if transport.get_write_buffer_size() < self._waiting_bytes:
            self._moved_at = now
        waited_s = now - self._moved_at
        # A timer may fire early by the clock's resolution: that must not add a look.
        if waited_s < self._patience_s * (1 - 0.1 / _LOOKS):
            self._look_later()
            return
        log.info("stream.stalled", waited_s=round(waited_s, 3), waiting_bytes=self._waiting_bytes, **self._context())
        reset(transport)

    def _context(self) -> dict[str, str]:
        """The tenant and the job of the current request, as far as they are known."""
        request = self._current_request
        if not isinstance(request, web.Request) or CALLER not in request:
            return {}
        context = {"tenant": request[CALLER].tenant}
        return context | {"job": request[JOB]} if JOB in request else context


class Connection(SlowClientGuard):
    """aiohttp's connection, with problems as responses to data that its parser refuses."""

    __slots__ = ("_body",)

    def __init__(self, server: web.Server, **more: Any) -> None:
        super().__init__(server, **more)
        #: Body of the newest request, until the request is answered. aiohttp takes a request out of its queue one turn
        #: of the loop before it makes it the current one, and an error in the body may arrive in between.
        self._body: StreamReader = EMPTY_PAYLOAD

    def data_received(self, data: bytes) -> None:
        """As aiohttp's; a handler that reads a body which turns out to be no HTTP gets the error at once.

        aiohttp itself reports the error once the request has been answered: the handler would wait for the rest of the
        body.
        """
        count = self._request_count
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

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp's; no handler reads the rest of the body any more."""
        if self._body is request.content:
            self._body = EMPTY_PAYLOAD
        return await super().finish_response(request, resp, start_time)

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
        problem = describe_unreadable(exc)
        quoted = uuid.uuid4().hex
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("http.failed", method="", path="", request=quoted, exc_info=exc)
        else:
            log.info("http.refused", status=problem.status, code=problem.code, path="", request=quoted)
        response = respond(problem)
        response.headers[REQUEST_ID] = quoted
        response.force_close()
        return response


def connections(server: web.Server, patience_s: float) -> Callable[[], Connection]:
    """A factory of protocols for `server`. `patience_s`: how long a client may read nothing while data waits for it."""
    loop = asyncio.get_running_loop()

    def connect() -> Connection:
        return Connection(
            server,
            patience_s=patience_s,
            loop=loop,
            access_log=None,
            max_line_size=MAX_PATH_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    return connect


def describe_unreadable(error: BaseException | None) -> Problem:
    """The problem of a request that aiohttp could not read. Not with aiohttp's text, which quotes the request."""
    if isinstance(error, http_exceptions.LineTooLong):
        return _too_long(error)
    if not isinstance(error, http_exceptions.HttpProcessingError):
        return INTERNAL
    match error:
        case http_exceptions.BadHttpMethod():
            detail = "the request line begins with no HTTP method; this port speaks HTTP/1.1, without TLS"
        case http_exceptions.BadStatusLine():
            detail = "the request line is none of HTTP/1.1"
        case http_exceptions.InvalidURLError():
            detail = "the request line has a path that cannot be read"
        case http_exceptions.InvalidHeader():
            detail = "a header cannot be read"
        case _ if error.message == _TOO_MANY:
            return Problem(status=431, code="too_large", detail=f"there are more than {MAX_HEADERS} headers")
        case _:
            detail = "the request is none of HTTP/1.1: a header, the body's length or a chunk of it cannot be read"
    return Problem(status=400, code="malformed", detail=detail)


def _too_long(error: http_exceptions.LineTooLong) -> Problem:
    if error.args[1] == MAX_PATH_BYTES:
        detail = f"the request line: path and query are longer than {MAX_PATH_BYTES} bytes"
        return Problem(status=414, code="too_large", detail=detail)
    detail = f"a header is longer than {MAX_HEADER_BYTES} bytes"
    return Problem(status=431, code="too_large", detail=detail)


def _bound_kernel(transport: asyncio.Transport) -> None:
    peer, option = transport.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if peer is None or option is None:  # without the option the kernel's own limits apply
        return
    with contextlib.suppress(OSError):  # the client has hung up already
        peer.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)
