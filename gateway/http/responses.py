"""Responses: the begin of a streamed one, JSON, headers of limits, and a cut that the client notices."""

import asyncio
import contextlib
import socket
import struct
from typing import Final

import msgspec
from aiohttp import web

from gateway.access.caller import CALLER
from gateway.http.rate_limit_headers import granted_headers
from gateway.limits.limiter import Granted

#: `request[JOB]`: the job's id, which every response to this request carries, errors included.
JOB: Final = web.RequestKey("job", str)
#: `request[BEGUN]`: the response whose head has been sent; after that an error can only cut the connection.
BEGUN: Final = web.RequestKey("begun", web.StreamResponse)
#: `request[GRANTED]`: the limit that let this request through, and the part of it that is left.
GRANTED: Final = web.RequestKey("granted", Granted)
#: Seconds that a body which was cut short may take to be flushed to its client.
_FLUSH_S: Final = 5.0
#: SO_LINGER with 0 s: closing the socket resets its connection.
_RESET: Final = struct.pack("ii", 1, 0)


async def begin(request: web.Request, response: web.StreamResponse) -> None:
    """Prepare the head of a streamed response; aiohttp sends it with the first bytes of the body."""
    request[BEGUN] = response
    await response.prepare(request)


async def add_limit_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: report the request's limit, unless the response is a refusal that does."""
    granted = request.get(GRANTED)
    if granted is not None and "RateLimit" not in response.headers:
        response.headers.update(granted_headers(granted))


def log_context(request: web.Request) -> dict[str, str]:
    """Fields of every log line about a request: its tenant and its job, as far as they are known."""
    context = {"tenant": request[CALLER].tenant} if CALLER in request and request[CALLER].tenant else {}
    return context | {"job": request[JOB]} if JOB in request else context


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A response with `value` as JSON; `value` is anything that msgspec encodes."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )


def cut_short(request: web.Request) -> None:
    """Close the connection in mid-body, so that no client takes the body for a complete one."""
    transport = request.transport
    if transport is None:
        return
    if request.version < (1, 1):
        # HTTP/1.0 has no chunks: an orderly close would be the end of the body.
        reset(transport)
        return
    transport.close()  # flushes the bytes that were written, but sends no last chunk
    asyncio.get_running_loop().call_later(_FLUSH_S, transport.abort)


def reset(transport: asyncio.Transport) -> None:
    """Reset the connection and drop the bytes that wait to be sent, in the kernel too."""
    peer = transport.get_extra_info("socket")
    if peer is not None:
        with contextlib.suppress(OSError):  # the socket is closed already
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
