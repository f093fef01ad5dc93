"""A WebSocket as a door uses it: text in, bounded in size and in silence; JSON and bytes out, no faster than they are
read.
"""

import asyncio
from collections.abc import Callable
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from gateway.http.responses import BEGUN, reset

#: A client that says nothing for so long is asked whether it is there, and has half as long to answer.
HEARTBEAT_S: Final = 40.0
#: For what has come to be read, when the time for it seems to be over.
_LAST_LOOK_S: Final = 0.05
#: For the client to answer our goodbye.
_CLOSE_S: Final = 5.0
#: What the kernel may hold for a client: small, or much would still be heard after a barge-in.
_SEND_BUFFER_BYTES: Final = 128 << 10
#: RFC 6455: a control frame has 125 bytes, the code takes two.
_MAX_REASON_BYTES: Final = 123


class Left(Exception):
    """The client said goodbye, hung up, or does not answer any more."""


class Silent(Exception):
    """Nothing came for too long."""


class NotText(Exception):
    """A binary message came."""


class Socket:
    """Read by one task; written by any. Writing raises ConnectionError once the client is gone."""

    def __init__(self, request: web.Request, max_message_bytes: int) -> None:
        self._request = request
        # No compression: sound does not get smaller, and a bomb would get larger.
        self.response = web.WebSocketResponse(
            timeout=_CLOSE_S, heartbeat=HEARTBEAT_S, compress=False, max_msg_size=max_message_bytes
        )
        self._loop = asyncio.get_running_loop()
        self._moved_at = 0.0
        self._is_closing = False
        #: Set once our goodbye has been answered, or will not be.
        self.closed = asyncio.Event()

    async def open(self) -> None:
        """Raises HTTPBadRequest if the request asks for no WebSocket."""
        if not self.response.can_prepare(self._request).ok:
            raise web.HTTPBadRequest(reason="a WebSocket is here, and the request asks for none (Upgrade: websocket)")
        await self.response.prepare(self._request)
        self._request[BEGUN] = self.response
        peer = self.response.get_extra_info("socket")
        if peer is not None:  # it may have hung up already
            peer.setsockopt(SOL_SOCKET, SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._moved_at = self._loop.time()

    async def text(self, idle_s: float, is_busy: Callable[[], bool]) -> str | None:
        """The next message; None after our own goodbye.

        Raises Left; NotText; Silent if for `idle_s` nothing came, nothing was sent and nothing was being done.
        """
        while True:
            left_s = self._moved_at + idle_s - self._loop.time()
            if left_s <= 0 and is_busy():
                self._moved_at = self._loop.time()
                continue
            try:
                # Looked at once more when the time is up: after a pause of this process, what came may not be read yet.
                message = await self.response.receive(timeout=max(left_s, _LAST_LOOK_S))
            except TimeoutError:
                if left_s <= 0:
                    raise Silent from None
                continue
            if self._is_closing:
                return None
            # What is there already is given at once: thousands of small messages would keep everybody else waiting.
            await asyncio.sleep(0)
            if message.type is WSMsgType.TEXT:
                self._moved_at = self._loop.time()
                return str(message.data)
            if message.type is WSMsgType.BINARY:
                self._moved_at = self._loop.time()
                raise NotText
            raise Left(f"closed with {self.response.close_code}: {self.response.exception() or 'by the client'}")

    async def watch(self) -> None:
        """Raises Left once the client does not answer, though everybody else here may be waiting for it to read."""
        while not self.response.closed:  # noqa: ASYNC110 - aiohttp tells it to a reader alone
            await asyncio.sleep(HEARTBEAT_S / 4)
        if not self._is_closing:
            raise Left("the client does not answer")

    async def tell(self, message: Any) -> None:
        """Send it as JSON."""
        await self.response.send_str(msgspec.json.encode(message).decode())
        self._moved_at = self._loop.time()

    async def send(self, data: bytes) -> None:
        await self.response.send_bytes(data)
        self._moved_at = self._loop.time()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye and wait for the answer, within bounds. What is not sent by now never is."""
        if self._is_closing:
            await self.closed.wait()
            return
        self._is_closing = True
        message = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
        try:
            async with asyncio.timeout(2 * _CLOSE_S):
                await self.response.close(code=code, message=message)
        except TimeoutError:
            self.abandon()
        finally:
            self.closed.set()

    def abandon(self) -> None:
        """Make sure that the connection ends, though its client may never read what is left for it."""
        self._loop.call_later(_CLOSE_S, self._end)

    def _end(self) -> None:
        transport = self._request.transport
        if transport is not None:  # it is not closed yet
            reset(transport)
