"""The bus's clock: one "now" for deadlines on all hosts. Local monotonic time plus an offset learnt from the server."""

import asyncio
import time
from datetime import datetime

from bus.errors import BusError
from bus.telemetry.logging import logger
from bus.transport.jetstream import JetStream

log = logger(__name__)


class BusClock:
    """`now` is Unix seconds by the server's wall clock. Local time until `learn` has run once."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset_s

    @property
    def skew_s(self) -> float:
        """How far the local wall clock is ahead of the bus's."""
        return time.time() - self.now()

    async def learn(self, js: JetStream, stream: str) -> None:
        """Read the server's clock once; the error is at most half the round trip."""
        asked = time.monotonic()
        answer = await js.info(stream)
        middle = (asked + time.monotonic()) / 2
        self._offset_s = parse_time(answer["ts"]) - middle

    async def keep(self, js: JetStream, stream: str, every_s: float = 60.0) -> None:
        """Learn again for ever, so that neither drift nor a step of the server's clock accumulates."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.learn(js, stream)
            except BusError as error:  # the bus is away: what was learnt before still holds
                log.warning("clock.sync_failed", error=str(error))


def parse_time(text: str) -> float:
    """Unix seconds of an RFC 3339 time, as NATS writes it; digits beyond microseconds are dropped."""
    return datetime.fromisoformat(text).timestamp()
