"""Clients that do not read: a connection whose waiting bytes do not move is reset after a while."""

import asyncio
from typing import Final

from aiohttp import web

from bus.telemetry.logging import logger
from gateway.http.responses import log_context, reset

log = logger(__name__)

#: Looks at the connection during `patience_s`.
_LOOKS: Final = 4


class SlowClientGuard(web.RequestHandler):
    """A connection that is reset once none of the bytes that wait has been sent for `_patience_s` seconds."""

    __slots__ = ("_moved_at", "_patience_s", "_waiting_bytes", "_write_timer")

    _moved_at: float
    _patience_s: float
    _waiting_bytes: int
    _write_timer: asyncio.TimerHandle | None

    def pause_writing(self) -> None:
        """As aiohttp's; starts to watch the bytes that wait."""
        super().pause_writing()
        if self.transport is None:  # TLS pauses once more as its connection closes
            return
        self._moved_at = self._loop.time()
        self._look_later()

    def resume_writing(self) -> None:
        """As aiohttp's; no bytes wait any more."""
        self._stop_looking()
        super().resume_writing()

    def _look_later(self) -> None:
        assert self.transport is not None
        self._waiting_bytes = self.transport.get_write_buffer_size()
        self._write_timer = self._loop.call_later(self._patience_s / _LOOKS, self._check_progress)

    def _stop_looking(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

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
        request = self._current_request
        context = log_context(request) if isinstance(request, web.Request) else {}
        log.info("stream.stalled", waited_s=round(waited_s, 3), waiting_bytes=self._waiting_bytes, **context)
        reset(transport)
