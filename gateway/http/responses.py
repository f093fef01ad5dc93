"""Beginning a streamed response, answering with JSON, and ending a connection so that its client sees the cut."""

import asyncio
import contextlib
import socket
import struct
from typing import Final

import msgspec
from aiohttp import web

#: `request[JOB]`: the job's id, which every response to this request carries, errors included.
JOB: Final = web.RequestKey("job", str)
#: `request[BEGUN]`: the response whose head has been sent; after that an error can only cut the connection.
BEGUN: Final = web.RequestKey("begun", web.StreamResponse)
#: Seconds that a body which was cut short may take to be flushed to its client.
_FLUSH_S: Final = 5.0
#: SO_LINGER on, with a timeout of 0 s: closing the socket resets its connection.
_RESET: Final = struct.pack("ii", 1, 0)


async def begin(request: web.Request, response: web.StreamResponse) -> None:
    """Prepare the head of a streamed response; aiohttp sends it with the first bytes of the body."""
    request[BEGUN] = response
    await response.prepare(request)


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A response with `value` as JSON; `value` is anything that msgspec encodes."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )


def cut_short(request: web.Request) -> None:
    """End the connection in mid-body, so that no client takes the body for a whole one."""
    transport = request.transport
    if transport is None:
        return
    if request.version < (1, 1):
        # HTTP/1.0 has no chunks: an orderly close would look like the end of the body.
        reset(transport)
        return
    transport.close()  # flushes what was written, but sends no last chunk
    asyncio.get_running_loop().call_later(_FLUSH_S, transport.abort)


def reset(transport: asyncio.Transport) -> None:
    """Reset the connection and drop what is still to be sent, in the kernel too."""
    peer = transport.get_extra_info("socket")
    if peer is not None:
        with contextlib.suppress(OSError):  # the socket is closed already
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
