"""Clients that hardly read, and a gateway in this process whose connections can be looked into."""

import asyncio
import contextlib
import fcntl
import random
import socket
import struct
import termios
from collections.abc import AsyncIterator, Iterator
from typing import Any

from aiohttp import web

from bus.jobs.log import Writer
from bus.settings import BusSettings
from gateway.app import make_app
from gateway.compose import Services
from gateway.http.connection import Listener
from gateway.http.reading import Shared
from tests.support.doors import gateway_here

BLOCK_BYTES = 48_000
#: Noise, that no codec makes small.
_NOISE = random.Random(1).randbytes(BLOCK_BYTES)


class SlowClient:
    """One connection with a window of a few KB, read only by `read`."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        #: What was read.
        self.data = b""

    async def read(self, num_bytes: int) -> bytes:
        """The next bytes, b"" at an orderly end. Raises ConnectionError when it was reset."""
        loop = asyncio.get_running_loop()
        piece = await loop.sock_recv(self.peer, num_bytes)
        self.data += piece
        return piece


class SlowServer:
    """An HTTP server with connections as `gateway.serve` makes them, and what its clients cost."""

    def __init__(self, server: web.Server, port: int) -> None:
        self._server = server
        self._port = port

    @contextlib.asynccontextmanager
    async def requested(
        self, request: str, body: str = "", address: str = "127.0.0.1", window_bytes: int = 4096
    ) -> AsyncIterator[SlowClient]:
        """A client at a loopback `address` that sends `request`: a method, a path, and headers in lines of their own.

        `body` is JSON. `window_bytes`: what the kernel receives while the client does not read.
        """
        loop, peer = asyncio.get_running_loop(), socket.socket()
        with contextlib.closing(peer):
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
            peer.bind((address, 0))
            await loop.sock_connect(peer, ("127.0.0.1", self._port))
            line, *headers = request.split("\n")
            if body:
                headers += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
            await loop.sock_sendall(peer, "\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", body]).encode())
            yield SlowClient(peer)

    @property
    def transports(self) -> list[asyncio.Transport]:
        return [each.transport for each in self._server.connections if each.transport is not None]

    @property
    def waiting_bytes(self) -> list[int]:
        """By connection: what was written and the kernel has not taken."""
        return [each.get_write_buffer_size() for each in self.transports]

    @property
    def kernel_bytes(self) -> list[int]:
        """By connection: what the kernel has and its client has not."""
        return [_unacknowledged_bytes(each.get_extra_info("socket").fileno()) for each in self.transports]


def _unacknowledged_bytes(fd: int) -> int:
    """Linux' SIOCOUTQ, which has the terminal's number."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


@contextlib.contextmanager
def listening(server: web.Server, shared: Shared) -> Iterator[int]:
    """Serve connections as `gateway.serve` does, at 127.0.0.1: the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as accepting:
        accepting.setblocking(False)
        with contextlib.closing(Listener([accepting], server, shared)):
            yield int(accepting.getsockname()[1])


@contextlib.asynccontextmanager
async def slow_server(server: web.Server, patience_s: float) -> AsyncIterator[SlowServer]:
    with listening(server, Shared(stalled_reader_s=patience_s)) as port:
        yield SlowServer(server, port)


@contextlib.asynccontextmanager
async def slow_gateway(
    settings: BusSettings, patience_s: float = 300.0, **more: Any
) -> AsyncIterator[tuple[Services, SlowServer]]:
    """`more`: settings of the gateway."""
    async with gateway_here(settings, **more) as (gateway, _):
        runner = web.AppRunner(make_app(gateway), handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        assert runner.server is not None
        try:
            async with slow_server(runner.server, patience_s) as server:
                yield gateway, server
        finally:
            await runner.cleanup()


async def write_noise(writer: Writer, num_blocks: int) -> None:
    """Write blocks of a second each, which no codec makes small."""
    for _ in range(num_blocks):
        await writer.block(_NOISE, BLOCK_BYTES // 2)
