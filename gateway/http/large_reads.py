"""Connections that have read a large piece of a body go on by turns: a few in each turn of the event loop.

By itself libuv reads up to 32 pieces, 8 MB, of each socket in a turn; with hundreds of them a turn took seconds.
aiohttp pauses a body that its handler does not read as fast, but none that was refused and is dropped.
"""

import asyncio
from collections import deque
from typing import Final

from aiohttp import web

#: Connections that read on in one turn, each a piece of at most 256 KB.
_NUM_READS: Final = 8


class LargeReads:
    """The connections of one server that wait for their turn. Not for several threads."""

    def __init__(self) -> None:
        self._waiting: deque[web.RequestHandler] = deque()

    def pause(self, connection: web.RequestHandler) -> None:
        """Stop reading from `connection` until it is its turn. Without effect while it does not read anyway."""
        if connection.transport is None or not connection.transport.is_reading():
            return
        connection.transport.pause_reading()
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        self._waiting.append(connection)

    def _next(self) -> None:
        for _ in range(min(_NUM_READS, len(self._waiting))):
            connection = self._waiting.popleft()
            is_held = connection._reading_paused or connection._buffer_paused  # noqa: SLF001 - aiohttp resumes it then
            if connection.transport is not None and not is_held:
                connection.transport.resume_reading()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
