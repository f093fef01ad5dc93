"""Large bodies: what they take of the memory that all clients share, and that they leave nothing behind."""

import asyncio
import contextlib
import gc
import weakref

import pytest
from aiohttp import web

from gateway.http.problems import describe, respond
from gateway.http.reading import SMALL_BODY_BYTES, ReadingTimes, TooSlow
from gateway.limits.buffers import Buffers
from tests.support.slow_senders import SHORT, connected, read_all, status, with_length
from tests.support.waiting import eventually


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


@pytest.mark.slow
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


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_handler_of_a_body_that_stops_leaves_nothing_for_the_garbage_collector(hangs_up: bool) -> None:
    """What it has read is in a variable of it, and the error's traceback has the variable: a cycle of megabytes."""
    held: list[weakref.ref[set[int]]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        local: set[int] = set()
        held.append(weakref.ref(local))
        return await read_all_beside(request, local)

    async def read_all_beside(request: web.BaseRequest, local: set[int]) -> web.StreamResponse:
        try:
            await request.read()
        except TooSlow as error:
            return respond(describe(error))
        raise AssertionError(local)

    gc.disable()
    try:
        async with connected(answer, ReadingTimes() if hangs_up else SHORT) as client:
            await client.send(with_length(1000) + b"x" * 500)
            await eventually(lambda: bool(held))
            if not hangs_up:
                assert status(await client.rest()) == 408
        await eventually(lambda: held[0]() is None)
    finally:
        gc.enable()
