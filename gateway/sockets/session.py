"""A WebSocket served from its hand-shake to its end, whoever ends it: what every dialect's socket has in common."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web

from bus.telemetry.logging import logger
from gateway.http.requests import Requests
from gateway.http.services import REQUESTS
from gateway.sockets.playback import Speaker
from gateway.sockets.socket import Left, Socket

log = logger(__name__)


class Session(Protocol):
    """One client's socket in a dialect."""

    speaker: Speaker[Any]

    async def run(self) -> None:
        """Read until the socket is closed by us; raises Left when by the client."""
        ...


async def converse(
    request: web.Request, max_message_bytes: int, open_session: Callable[[Socket, asyncio.TaskGroup], Session]
) -> web.StreamResponse:
    """Serve a WebSocket until it ends, by whomever. Whatever is being said then is left."""
    socket = Socket(request, max_message_bytes)
    await socket.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            session = open_session(socket, tasks)
            beside = [
                tasks.create_task(_stop(request.app[REQUESTS], socket, session.speaker)),
                tasks.create_task(socket.watch()),
            ]
            await session.run()
            await socket.closed.wait()
            await session.speaker.hush()
            for task in beside:
                task.cancel()
    except* (Left, ConnectionError) as gone:
        log.debug("stream.abandoned", error=str(gone.exceptions[0]))
    finally:
        socket.abandon()
    return socket.response


async def _stop(requests: Requests, socket: Socket, speaker: Speaker[Any]) -> None:
    """When this process is to end, let what was asked for be said, then send the client to another one."""
    await requests.stopping.wait()
    while speaker.is_busy():
        await speaker.quiet.wait()
    await socket.close(1001, "this gateway stops")
