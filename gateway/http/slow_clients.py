"""A client as a reader: little waits for it on the way, and nobody waits for ever for one that does not read."""

import asyncio
import contextlib
import socket
from typing import Any, Final, cast

from aiohttp import web

from bus.telemetry.logging import logger
from gateway.access.caller import CALLER
from gateway.http.responses import JOB, reset

log = logger(__name__)

#: What the kernel holds that was not sent yet. Left to itself it holds megabytes for each client, outside our bounds.
_UNSENT_BYTES: Final = 128 << 10
#: How often it is looked, in the time that a reader may stand still.
_LOOKS: Final = 4


class Reader(web.RequestHandler):
    """A connection that is reset once not a byte has left for `patience_s` while some wait."""

    __slots__ = ("_look", "_moved_at", "_patience_s", "_waiting_bytes")

    def __init__(self, server: web.Server, *, patience_s: float, **more: Any) -> None:
        super().__init__(server, **more)
        self._patience_s = patience_s
        self._look: asyncio.TimerHandle | None = None
        self._moved_at = 0.0
        self._waiting_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one, but no subclass
        # We are told whenever anything waits here, and writers wait until nothing does.
        transport.set_write_buffer_limits(high=0)
        _bound_kernel(transport)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._moved_at = self._loop.time()
        self._await_bytes()

    def resume_writing(self) -> None:
        self._forget()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _await_bytes(self) -> None:
        assert self.transport is not None
        self._waiting_bytes = self.transport.get_write_buffer_size()
        self._look = self._loop.call_later(self._patience_s / _LOOKS, self._look_at_it)

    def _forget(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_at_it(self) -> None:
        transport, now = self.transport, self._loop.time()
        if transport is None:
            return
        # Writers wait meanwhile; what may grow is a ping or a comment now and then.
        if transport.get_write_buffer_size() < self._waiting_bytes:
            self._moved_at = now
        waited_s = now - self._moved_at
        # Before the last look by less than a clock can tell.
        if waited_s < self._patience_s * (1 - 0.1 / _LOOKS):
            self._await_bytes()
            return
        log.info(
            "stream.stalled", waited_s=round(waited_s, 3), waiting_bytes=self._waiting_bytes, **self._what_it_reads()
        )
        reset(transport)

    def _what_it_reads(self) -> dict[str, str]:
        asked = self._current_request
        if not isinstance(asked, web.Request) or CALLER not in asked:
            return {}
        told = {"tenant": asked[CALLER].tenant}
        return told | {"job": asked[JOB]} if JOB in asked else told


def _bound_kernel(transport: asyncio.Transport) -> None:
    peer, option = transport.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if peer is None or option is None:  # where there is no such option the kernel's own limits hold
        return
    with contextlib.suppress(OSError):  # it has hung up already
        peer.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)
