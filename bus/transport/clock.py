"""The bus's clock: one time for deadlines on all hosts. Local monotonic time plus an offset read from the server."""

import asyncio
import time
from datetime import datetime

from bus.errors import BusError
from bus.telemetry.logging import logger
from bus.transport.jetstream import JetStream

log = logger(__name__)


class BusClock:
    """The server's wall clock. Local time until `sync` has succeeded once."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the server's time in Unix seconds."""
        return time.monotonic() + self._offset_s

    @property
    def skew_s(self) -> float:
        """How far the local wall clock is ahead of the server's, in seconds."""
        return time.time() - self.now()

    async def sync(self, js: JetStream, stream: str) -> None:
        """Read the server's clock once; the error is at most half the round trip. Raises ApiError, Unreachable."""
        sent_at = time.monotonic()
        info = await js.info(stream)
        middle = (sent_at + time.monotonic()) / 2
        self._offset_s = parse_time(info["ts"]) - middle

    async def keep_synced(self, js: JetStream, stream: str, every_s: float = 60.0) -> None:
        """Repeat `sync` until cancelled, so that neither drift nor a step of the server's clock accumulates."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.sync(js, stream)
            except BusError as error:  # the bus is unreachable: the last offset stays in use
                log.warning("clock.sync_failed", error=str(error))


def parse_time(text: str) -> float:
    """Return the Unix seconds of an RFC 3339 time as NATS writes it; digits beyond microseconds are dropped."""
    return datetime.fromisoformat(text).timestamp()
