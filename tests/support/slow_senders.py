"""Clients that send slowly, and a server with connections as the gateway's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from gateway.http.problems import describe, respond
from gateway.http.reading import ReadingTimes, Shared
from gateway.limits.buffers import Buffers
from tests.support.slow import listening
from tests.support.waiting import eventually

#: Short enough to be waited for. Every test that must be in time has the long ones.
SHORT = ReadingTimes(head_s=0.3, body_s=0.4, keep_alive_s=0.5)
#: A pause that is over before a short time, and several of them after it.
PAUSE_S = 0.05
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def with_length(num_bytes: int) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % num_bytes


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


async def read_all(request: web.BaseRequest) -> web.StreamResponse:
    """As the gateway's boundary: an error of the body becomes its problem."""
    try:
        return web.Response(text=str(len(await request.read())))
    except Exception as error:  # noqa: BLE001 - the test looks at its status
        return respond(describe(error))


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest_while_dripping(self, data: bytes) -> bytes:
        """As `rest`, while a byte is sent now and then."""

        async def drip() -> None:
            for byte in data:
                await self.send(bytes([byte]))
                await asyncio.sleep(PAUSE_S)

        dripping = asyncio.create_task(drip())
        try:
            return await self.rest()
        finally:
            dripping.cancel()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await dripping

    async def rest(self) -> bytes:
        """Everything until the other side hangs up."""
        async with asyncio.timeout(30):
            return await self._reader.read()

    async def answer(self) -> bytes:
        """The status and the body of one response that has a length."""
        async with asyncio.timeout(30):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            return head.split(b" ")[1] + b" " + await self._reader.readexactly(int(length.split(b":")[1]))


@contextlib.asynccontextmanager
async def connected(
    handler: Handler = read_all, times: ReadingTimes = SHORT, buffers: Buffers | None = None
) -> AsyncIterator[Client]:
    server = web.Server(handler)
    with listening(server, Shared(times=times, buffers=buffers)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            yield Client(reader, writer)
        await eventually(lambda: not server.connections)
