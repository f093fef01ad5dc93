"""Clients that send slowly, or around their bodies: what is waited for, and what is refused."""

import asyncio
import contextlib

import pytest
from aiohttp import WSMsgType, web

from gateway.http.reading import ReadingTimes
from tests.support.slow_senders import CHUNKED, GET, PAUSE_S, connected, status, with_length

pytestmark = pytest.mark.slow


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
