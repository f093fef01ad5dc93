"""Clients that send slowly, or around their bodies: what is waited for, what is refused, and what it may hold."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import WSMsgType, web

from gateway.http.problems import describe, respond
from gateway.http.reading import SMALL_BODY_BYTES, ReadingTimes, Shared
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


async def test_a_silent_connection_is_closed_without_a_word() -> None:
    async with connected() as client:
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "part", [b"G", b"GET /pa", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\nHost: lo", GET[:-2]]
)
async def test_a_head_that_stops_is_a_408(part: bytes) -> None:
    async with connected() as client:
        await client.send(part)
        answer = await client.rest()
    assert status(answer) == 408
    assert b'"code":"too_slow"' in answer
    assert b"0.3 s" in answer


async def test_bytes_now_and_then_give_a_head_no_more_time() -> None:
    async with connected() as client:
        assert status(await client.rest_while_dripping(b"GET /" + b"x" * 1000)) == 408


async def test_the_head_of_a_later_request_has_the_same_time() -> None:
    async with connected(times=ReadingTimes(head_s=0.3, keep_alive_s=600)) as client:
        await client.send(GET)
        assert await client.answer() == b"200 0"
        await client.send(GET[:10])
        assert status(await client.rest()) == 408


async def test_a_connection_between_two_requests_is_closed_after_its_own_time() -> None:
    async with connected() as client:
        for _ in range(4):
            await client.send(GET)
            assert await client.answer() == b"200 0"
            await asyncio.sleep(PAUSE_S)
        assert await client.rest() == b""


async def test_an_idle_connection_is_not_taken_for_a_late_head() -> None:
    async with connected(times=ReadingTimes(head_s=0.1, body_s=0.1, keep_alive_s=600)) as client:
        await client.send(with_length(2))
        await client.send(b"ab")
        assert await client.answer() == b"200 2"
        await asyncio.sleep(0.4)  # nothing may happen meanwhile
        await client.send(GET)
        assert await client.answer() == b"200 0"


async def test_the_rest_of_a_body_that_nobody_reads_is_no_late_head() -> None:
    async def refuse(request: web.BaseRequest) -> web.Response:
        return web.Response(status=401 if request.method == "POST" else 200)

    async with connected(refuse, ReadingTimes(head_s=0.2, body_s=600, keep_alive_s=600)) as client:
        await client.send(with_length(4))
        assert await client.answer() == b"401 "
        for byte in (b"a", b"b", b"c", b"d"):
            await client.send(byte)
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(0.5)  # nothing may happen meanwhile
        await client.send(GET)
        assert await client.answer() == b"200 "


@pytest.mark.parametrize("head", [with_length(1000), CHUNKED, CHUNKED + b"2\r\nab\r\n"], ids=range(3))
async def test_a_body_that_stops_is_a_408(head: bytes) -> None:
    async with connected() as client:
        await client.send(head)
        answer = await client.rest()
    assert status(answer) == 408
    assert b'"path":"body"' in answer


async def test_bytes_now_and_then_give_a_body_hardly_more_time() -> None:
    async with connected() as client:
        await client.send(with_length(1000))
        assert status(await client.rest_while_dripping(b"x" * 1000)) == 408


async def test_a_body_that_comes_fast_enough_may_take_longer() -> None:
    piece = bytes(32 << 10)
    async with connected(times=ReadingTimes(body_s=0.5)) as client:
        await client.send(with_length(20 * len(piece)))
        for _ in range(20):
            await client.send(piece)
            await asyncio.sleep(PAUSE_S)
        assert await client.answer() == b"200 %d" % (20 * len(piece))


async def test_time_in_which_the_gateway_does_not_read_is_not_the_clients() -> None:
    body, may_read = bytes(8 << 20), asyncio.Event()

    async def later(request: web.BaseRequest) -> web.StreamResponse:
        await may_read.wait()
        return web.Response(text=str(sum([len(data) async for data in request.content.iter_any()])))

    async with connected(later, ReadingTimes(body_s=0.4)) as client:
        sending = asyncio.create_task(client.send(with_length(len(body)) + body))
        await asyncio.sleep(1.5)
        may_read.set()
        assert await client.answer() == b"200 %d" % len(body)
        await sending


async def test_a_websocket_may_be_silent() -> None:
    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
        return socket

    upgrade = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    async with connected(echo) as client:
        await client.send(upgrade + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        await asyncio.sleep(1.5)  # nothing may happen meanwhile
        await client.send(b"\x81\x82\0\0\0\0hi")
        await asyncio.sleep(0.5)
        await client.send(b"\x88\x80\0\0\0\0")
        head, _, frames = (await client.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert frames.startswith(b"\x81\x02hi")


async def test_extensions_of_chunks_are_bounded() -> None:
    async with connected(times=ReadingTimes()) as client:
        await client.send(CHUNKED)
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                await client.send(b"1;" + b"x" * 2000 + b"\r\nx\r\n")
        answer = await client.rest()
    assert status(answer) == 400
    assert b"extensions" in answer


async def test_chunks_of_one_byte_are_a_body_like_another() -> None:
    async with connected(times=ReadingTimes()) as client:
        await client.send(CHUNKED)
        for _ in range(100):
            await client.send(b"1\r\nx\r\n" * 2000)
        await client.send(b"0\r\n\r\n")
        assert await client.answer() == b"200 200000"


async def test_a_large_body_takes_of_the_shared_memory_until_its_request_is_answered() -> None:
    buffers, arrived, may_answer = Buffers(64 << 20), asyncio.Event(), asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        arrived.set()
        await may_answer.wait()
        return web.Response()

    async with connected(answer, ReadingTimes(), buffers) as client:
        await client.send(with_length(1 << 20) + bytes(1 << 19))
        await eventually(lambda: buffers.total_bytes >= 1 << 19)
        await client.send(bytes(1 << 19))
        await arrived.wait()
        assert buffers.total_bytes == 1 << 20
        may_answer.set()
        assert await client.answer() == b"200 "
        assert buffers.total_bytes == 0


async def test_a_small_body_takes_nothing() -> None:
    buffers, held = Buffers(64 << 20), []

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        held.append(buffers.total_bytes)
        return web.Response()

    async with connected(answer, ReadingTimes(), buffers) as client:
        await client.send(with_length(SMALL_BODY_BYTES))
        await client.send(bytes(SMALL_BODY_BYTES))
        assert await client.answer() == b"200 "
    assert held == [0]


async def test_a_body_whose_client_hangs_up_gives_its_memory_back() -> None:
    buffers = Buffers(64 << 20)
    async with connected(read_all, ReadingTimes(), buffers) as client:
        await client.send(with_length(1 << 20) + bytes(1 << 19))
        await eventually(lambda: buffers.total_bytes >= 1 << 19)
    await eventually(lambda: buffers.total_bytes == 0)


async def test_a_body_that_does_not_fit_is_refused_while_it_is_sent() -> None:
    buffers = Buffers(1 << 19)
    async with connected(read_all, ReadingTimes(), buffers) as client:
        with contextlib.suppress(ConnectionError):
            await client.send(with_length(8 << 20))
            for _ in range(128):
                await client.send(bytes(64 << 10))
        answer = await client.rest()
    assert status(answer) in {429, 503}
    assert b"buffer_bytes" in answer
    assert buffers.total_bytes == 0
