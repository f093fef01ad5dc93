"""Accepting connections: in small groups, with their place among the open ones, and without a free descriptor."""

import asyncio
import contextlib
import errno
import socket

from aiohttp import web
from structlog.testing import capture_logs

from gateway.access.addresses import Addresses
from gateway.http.connection import Listener
from gateway.http.open_connections import OpenConnections
from gateway.http.reading import Shared
from tests.support.slow import listening
from tests.support.waiting import eventually

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def fine(_: web.BaseRequest) -> web.Response:
    return web.Response()


async def answer(port: int) -> bytes:
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(GET)
            return await reader.read()


class Exhausted(socket.socket):
    """Refuses to accept the first time, as the kernel does without a free descriptor."""

    num_refusals = 0

    def accept(self) -> tuple[socket.socket, object]:
        if not self.num_refusals:
            self.num_refusals += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_without_a_descriptor_it_goes_on_in_a_moment() -> None:
    with Exhausted() as accepting, capture_logs() as logs:
        accepting.bind(("127.0.0.1", 0))
        accepting.listen()
        accepting.setblocking(False)
        with contextlib.closing(Listener([accepting], web.Server(fine), Shared())):
            assert (await answer(accepting.getsockname()[1])).startswith(b"HTTP/1.1 200 ")
    assert [event["event"] for event in logs] == ["listener.paused"]


async def test_every_connection_that_ends_leaves_its_place() -> None:
    open_connections = OpenConnections(1000, Addresses(()))
    with listening(web.Server(fine), Shared(open=open_connections)) as port:
        answers = await asyncio.gather(*[answer(port) for _ in range(100)])
        assert {each[:13] for each in answers} == {b"HTTP/1.1 200 "}
        reset = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        await eventually(lambda: open_connections.total == 20)
        for peer in reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
        await eventually(lambda: open_connections.total == 0)
    assert open_connections.by_site == {}


async def test_a_connection_that_is_refused_is_closed() -> None:
    open_connections = OpenConnections(1000, Addresses(()), per_address=1)
    began, waiting = asyncio.Event(), asyncio.Event()

    async def slow(_: web.BaseRequest) -> web.Response:
        began.set()
        await waiting.wait()
        return web.Response()

    with listening(web.Server(slow), Shared(open=open_connections)) as port:
        first = asyncio.create_task(answer(port))
        await asyncio.wait_for(began.wait(), 30)  # before that it is idle, and ends for the next one
        with contextlib.suppress(ConnectionError):
            assert await answer(port) == b""
        waiting.set()
        assert (await first).startswith(b"HTTP/1.1 200 ")


async def test_an_idle_connection_ends_for_another_of_its_address() -> None:
    open_connections = OpenConnections(1000, Addresses(()), per_address=1)
    with listening(web.Server(fine), Shared(open=open_connections)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            await eventually(lambda: open_connections.total == 1)
            await eventually(lambda: all(each.idle_since for each in open_connections.by_site["127.0.0.1"]))
            assert (await answer(port)).startswith(b"HTTP/1.1 200 ")
            assert await reader.read() == b""
