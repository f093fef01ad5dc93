"""A body that turns out to be no HTTP, at any moment of its request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.http.connection import Connection
from gateway.http.reading import Shared
from tests.support.slow import listening
from tests.support.waiting import eventually

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_CHUNK = b"no chunk\r\n"


@contextlib.asynccontextmanager
async def connected(server: web.Server) -> AsyncIterator[tuple[Connection, asyncio.StreamReader]]:
    """The gateway's side of a connection, and the client's reader."""
    with listening(server, Shared()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            await eventually(lambda: bool(server.connections))
            [connection] = server.connections
            assert isinstance(connection, Connection)
            yield connection, reader
        await eventually(lambda: connection.transport is None)


@pytest.mark.parametrize("num_turns", range(6))
async def test_a_handler_that_reads_it_gets_an_error_at_any_stage_of_the_request(num_turns: int) -> None:
    """Aiohttp needs some turns of the loop from a request's head to its handler; a packet comes between any two."""
    raised: list[type[Exception]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        try:
            await request.read()
        except web.RequestPayloadError as error:
            raised.append(type(error))
            return web.Response(status=400)
        return web.Response()

    loop = asyncio.get_running_loop()
    async with connected(web.Server(answer)) as (connection, reader):

        def send(turns: int) -> None:
            if turns:
                loop.call_soon(send, turns - 1)
            else:
                connection.data_received(NO_CHUNK)

        connection.data_received(POST)
        send(num_turns)
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        assert raised == [web.RequestPayloadError]


async def test_an_error_in_a_body_that_no_handler_reads_is_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=401)

    async with connected(web.Server(answer)) as (connection, reader):
        connection.data_received(POST)
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            connection.data_received(NO_CHUNK)
            for _ in range(20):
                await asyncio.sleep(0)
    assert caplog.records == []
