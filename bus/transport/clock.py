"""The bus's clock: one time for deadlines on all hosts. Local elapsed time plus an offset read from the server.

The wall clock of this machine may be set at will: it is read for diagnosis only. That of the server's machine is
followed slowly: setting a clock moves no deadline of a running deployment.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from bus.errors import BusError
from bus.telemetry.logging import logger
from bus.transport.jetstream import JetStream

log = logger(__name__)

#: Seconds by which the offset may follow the server's, per second that has passed since it was read last. Drift and
#: the differences within a cluster are a thousandth of that; a step of a day would take weeks.
_MAX_SLEW: Final = 0.05
#: A larger difference, in seconds, is no drift and no slow response.
_STEP_S: Final = 1.0
#: Time that also passes while the machine is suspended, where the system has it.
_ELAPSED_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_s() -> float:
    """Seconds since some moment, which no setting of a clock changes."""
    return time.clock_gettime(_ELAPSED_CLOCK)


class BusClock:
    """The server's wall clock as this process has known it. Local time until `sync` has succeeded once."""

    def __init__(self, elapsed: Callable[[], float] = elapsed_s, wall: Callable[[], float] = time.time) -> None:
        """`elapsed`: seconds of a clock that is never set. `wall`: Unix seconds of this machine's clock."""
        self._elapsed = elapsed
        self._wall = wall
        #: Of the time for deadlines, and of the server's last time.
        self._offset_s = self._server_offset_s = wall() - elapsed()
        self._synced_at: float | None = None
        self._error_s = 0.0

    def now(self) -> float:
        """The time for deadlines, in Unix seconds. No clock that is set moves it by more than a twentieth."""
        return self._elapsed() + self._offset_s

    def server_now(self) -> float:
        """The server's time in Unix seconds, for comparisons with times that it has stored."""
        return self._elapsed() + self._server_offset_s

    @property
    def skew_s(self) -> float:
        """How far the local wall clock is ahead of the time for deadlines, in seconds."""
        return self._wall() - self.now()

    @property
    def step_s(self) -> float:
        """How far the server's clock is ahead of the time for deadlines, in seconds: not near 0 once it was set."""
        return self._server_offset_s - self._offset_s

    async def sync(self, js: JetStream, stream: str) -> None:
        """Read the server's clock once; the error is at most half the round trip. Raises ApiError, Unreachable."""
        sent_at = self._elapsed()
        info = await js.info(stream)
        error_s = (self._elapsed() - sent_at) / 2
        self.follow(parse_time(info["ts"]), sent_at + error_s, error_s)

    def follow(self, server_s: float, read_at: float, error_s: float = 0.0) -> None:
        """Take the server's time `server_s` as of `read_at` of the elapsed clock (seconds), wrong by `error_s` at most.

        At once the first time; from then on by the errors of both readings and `_MAX_SLEW` at most.
        """
        self._server_offset_s = server_s - read_at
        if self._synced_at is None:
            self._offset_s = self._server_offset_s
        else:
            limit_s = _MAX_SLEW * max(0.0, read_at - self._synced_at) + self._error_s + error_s
            self._offset_s += min(max(self.step_s, -limit_s), limit_s)
        self._synced_at = read_at
        self._error_s = error_s

    async def keep_synced(self, js: JetStream, stream: str, every_s: float = 60.0) -> None:
        """Repeat `sync` until cancelled, so that no drift accumulates. Logs a server whose clock was set."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.sync(js, stream)
            except BusError as error:  # the bus is unreachable: the last offset stays in use
                log.warning("clock.sync_failed", error=str(error))
            else:
                if abs(self.step_s) > _STEP_S:
                    log.warning("clock.stepped", step_s=round(self.step_s, 3))


def parse_time(text: str) -> float:
    """Return the Unix seconds of an RFC 3339 time as NATS writes it; digits beyond microseconds are dropped."""
    return datetime.fromisoformat(text).timestamp()
