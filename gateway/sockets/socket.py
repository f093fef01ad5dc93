"""One WebSocket: receives text, bounded in size and idle time; sends JSON and bytes as fast as the client reads."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from gateway.access.caller import CALLER
from gateway.http.responses import BEGUN, reset
from gateway.http.services import BUFFERS
from gateway.limits.buffers import Buffer

#: A client that has sent nothing for this long gets a ping, and has half as long to answer.
HEARTBEAT_S: Final = 40.0
#: How long to wait for a message that has arrived, when the idle time seems to be over.
_LAST_READ_S: Final = 0.05
#: For the client to answer our close frame.
_CLOSE_S: Final = 5.0
#: Bytes that the kernel may hold for a client. Few, because an interruption cannot take them back.
_SEND_BUFFER_BYTES: Final = 128 << 10
#: RFC 6455: a control frame has 125 bytes, of which the code takes two.
_MAX_REASON_BYTES: Final = 123


class ClientGone(Exception):
    """The client closed the socket, lost its connection or stopped answering."""


class IdleTimeout(Exception):
    """No message came for too long."""


class BinaryMessage(Exception):
    """The client sent a binary message."""


class Socket:
    """Read by one task, written by any number. Sending raises ConnectionError once the client is gone."""

    def __init__(self, request: web.Request, max_message_bytes: int) -> None:
        self._request = request
        # No compression: audio does not get smaller, and a small message could expand to a huge one.
        self.response = web.WebSocketResponse(
            timeout=_CLOSE_S, heartbeat=HEARTBEAT_S, compress=False, max_msg_size=max_message_bytes
        )
        self._loop = asyncio.get_running_loop()
        #: Loop time of the last message in either direction.
        self._active_at = 0.0
        self._is_closing = False
        #: Set once the client has answered our close frame, or will not.
        self.closed = asyncio.Event()

    @property
    def owner(self) -> str:
        """Whose share of the gateway's pools it uses."""
        return self._request[CALLER].owner

    def hold(self) -> AbstractContextManager[Buffer]:
        """Memory of the gateway for a message that is collected before it is sent."""
        return self._request.app[BUFFERS].hold(self.owner)

    async def open(self) -> None:
        """Answer the handshake. Raises HTTPBadRequest if the request is none."""
        try:
            is_handshake = self.response.can_prepare(self._request).ok
        except ValueError:  # its key has other characters than ASCII's
            is_handshake = False
        if not is_handshake:
            raise web.HTTPBadRequest(
                reason="this path is a WebSocket: the request lacks `Upgrade: websocket`, or a key"
            )
        await self.response.prepare(self._request)
        self._request[BEGUN] = self.response
        peer = self.response.get_extra_info("socket")
        if peer is not None:  # None if the client has hung up already
            peer.setsockopt(SOL_SOCKET, SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._active_at = self._loop.time()

    async def receive_text(self, idle_s: float, is_busy: Callable[[], bool]) -> str | None:
        """The next message; None once this side has closed the socket.

        Raises ClientGone; BinaryMessage; IdleTimeout if for `idle_s` nothing was received or sent and `is_busy` was
        false. Cancelling it may lose a message.
        """
        while True:
            left_s = self._active_at + idle_s - self._loop.time()
            if left_s <= 0 and is_busy():
                self._active_at = self._loop.time()
                continue
            try:
                # Read once more when the time is up: after a pause of this process a message may have arrived unread.
                message = await self.response.receive(timeout=max(left_s, _LAST_READ_S))
            except TimeoutError:
                if left_s <= 0:
                    raise IdleTimeout from None
                continue
            if self._is_closing:
                return None
            # Messages that have arrived are returned at once: thousands of small ones would starve other requests.
            await asyncio.sleep(0)
            if message.type is WSMsgType.TEXT:
                self._active_at = self._loop.time()
                return str(message.data)
            if message.type is WSMsgType.BINARY:
                self._active_at = self._loop.time()
                raise BinaryMessage
            raise ClientGone(f"closed with {self.response.close_code}: {self.response.exception() or 'by the client'}")

    async def watch(self) -> None:
        """Raises ClientGone once the client stops answering, also while every task here waits for it to read."""
        while not self.response.closed:  # noqa: ASYNC110 - aiohttp reports it to a task that receives, to no other
            await asyncio.sleep(HEARTBEAT_S / 4)
        if not self._is_closing:
            raise ClientGone("the client does not answer")

    async def send_json(self, message: Any) -> None:
        """Send `message` as JSON in a text message."""
        await self.response.send_str(msgspec.json.encode(message).decode())
        self._active_at = self._loop.time()

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        await self.response.send_bytes(data)
        self._active_at = self._loop.time()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame and wait for the answer, at most `2 * _CLOSE_S`. Nothing is sent after it."""
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
        """Reset the connection soon unless it has ended: its client may never read the rest."""
        self._loop.call_later(_CLOSE_S, self._reset)

    def _reset(self) -> None:
        transport = self._request.transport
        if transport is not None:  # it is not closed yet
            reset(transport)
