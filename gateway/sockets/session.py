"""Serves a WebSocket from its handshake to its end: the part that the sockets of all dialects share."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from bus.telemetry.logging import logger
from gateway.http.requests import Requests
from gateway.http.responses import log_context
from gateway.http.services import REQUESTS
from gateway.sockets.socket import ClientGone, Socket

log = logger(__name__)


class Playing(Protocol):
    """All that one socket plays."""

    def is_busy(self) -> bool:
        """Whether anything is queued or played."""
        ...

    async def until_idle(self) -> None:
        """Wait until nothing that is queued now is left to play; more may have been queued since."""
        ...

    async def interrupt(self) -> None:
        """Drop the queue and stop. On return nothing more is sent, and the jobs have been left."""
        ...


class Session(Protocol):
    """A dialect's protocol on one socket."""

    @property
    def playback(self) -> Playing:
        """All that the socket plays."""
        ...

    async def run(self) -> None:
        """Handle messages until this side closes the socket; raises ClientGone if the client ends it."""
        ...


async def serve_session(
    request: web.Request, max_message_bytes: int, open_session: Callable[[Socket, asyncio.TaskGroup], Session]
) -> web.StreamResponse:
    """Serve a WebSocket until either side ends it; the job that is played then is left.

    Raises HTTPBadRequest if the request is no WebSocket handshake.
    """
    socket = Socket(request, max_message_bytes)
    await socket.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            session = open_session(socket, tasks)
            background = [
                tasks.create_task(_close_on_stop(request.app[REQUESTS], socket, session.playback)),
                tasks.create_task(socket.watch()),
            ]
            await session.run()
            await socket.closed.wait()
            await session.playback.interrupt()
            for task in background:
                task.cancel()
    except* (ClientGone, ConnectionError) as gone:
        log.debug("stream.abandoned", error=str(gone.exceptions[0]), **log_context(request))
    finally:
        socket.abandon()
    return socket.response


async def _close_on_stop(requests: Requests, socket: Socket, playback: Playing) -> None:
    """Once this process is to stop, play the queue and close the socket: the client connects to another gateway."""
    await requests.stopping.wait()
    while playback.is_busy():
        await playback.until_idle()
    await socket.close(1001, "this gateway stops")
