"""Slow clients: few bytes wait for one, here and in the kernel, and one that stops reading is reset after a while."""

import asyncio
import contextlib
import socket
from typing import Any, Final, cast

from aiohttp import web

from bus.telemetry.logging import logger
from gateway.access.caller import CALLER
from gateway.http.responses import JOB, reset

log = logger(__name__)

#: Unsent bytes in the kernel. By default it holds megabytes for each client, which our own limits do not see.
_UNSENT_BYTES: Final = 128 << 10
#: Looks at the connection during `patience_s`.
_LOOKS: Final = 4


class SlowClientGuard(web.RequestHandler):
    """A connection that is reset once none of the bytes that wait has been sent for `patience_s` seconds."""

    __slots__ = ("_moved_at", "_patience_s", "_timer", "_waiting_bytes")

    def __init__(self, server: web.Server, *, patience_s: float, **more: Any) -> None:
        super().__init__(server, **more)
        self._patience_s = patience_s
        self._timer: asyncio.TimerHandle | None = None
        self._moved_at = 0.0
        self._waiting_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As aiohttp's; bounds the bytes that wait."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is one, but no subclass
        # `pause_writing` is called whenever bytes wait here, and writers wait until none do.
        transport.set_write_buffer_limits(high=0)
        _bound_kernel(transport)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """As aiohttp's; starts to watch the bytes that wait."""
        super().pause_writing()
        self._moved_at = self._loop.time()
        self._look_later()

    def resume_writing(self) -> None:
        """As aiohttp's; no bytes wait any more."""
        self._stop_looking()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """As aiohttp's; stops watching."""
        self._stop_looking()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        assert self.transport is not None
        self._waiting_bytes = self.transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._patience_s / _LOOKS, self._check_progress)

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_progress(self) -> None:
        transport, now = self.transport, self._loop.time()
        if transport is None:
            return
        # Writers wait meanwhile; only a ping or a comment now and then adds bytes.
        if transport.get_write_buffer_size() < self._waiting_bytes:
            self._moved_at = now
        waited_s = now - self._moved_at
        # A timer may fire early by the clock's resolution: that must not add a look.
        if waited_s < self._patience_s * (1 - 0.1 / _LOOKS):
            self._look_later()
            return
        log.info("stream.stalled", waited_s=round(waited_s, 3), waiting_bytes=self._waiting_bytes, **self._context())
        reset(transport)

    def _context(self) -> dict[str, str]:
        """The tenant and the job of the current request, as far as they are known."""
        request = self._current_request
        if not isinstance(request, web.Request) or CALLER not in request:
            return {}
        context = {"tenant": request[CALLER].tenant}
        return context | {"job": request[JOB]} if JOB in request else context


def _bound_kernel(transport: asyncio.Transport) -> None:
    peer, option = transport.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if peer is None or option is None:  # without the option the kernel's own limits apply
        return
    with contextlib.suppress(OSError):  # the client has hung up already
        peer.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)
