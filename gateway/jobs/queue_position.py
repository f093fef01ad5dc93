"""Where a job waits, and for how long: counted by the server, told only when it is known (protocol rule 22)."""

import asyncio
import time
from collections import deque
from typing import Final

import msgspec

from bus import wire
from bus.errors import ApiError, BusError
from bus.fleet.fleet import Fleet
from bus.jobs.client import Bus
from bus.telemetry.logging import logger

log = logger(__name__)

_WINDOW_S: Final = 60.0
_SAMPLE_S: Final = 1.0
#: Fewer starts in the window tell nothing.
_MIN_STARTS: Final = 5
_CONSUMER_NOT_FOUND: Final = 10014


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in a queue."""

    #: Jobs of the same queue that are ahead.
    position: int
    #: Seconds until it starts, if the last minute tells.
    eta_s: float | None = None


class Starts:
    """How many jobs each queue started in the last minute, from the counters in the workers' heartbeats."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        #: Counters at the last look, by (worker, boot).
        self._counted: dict[tuple[str, str], dict[str, int]] = {}
        self._starts: dict[str, deque[tuple[float, int]]] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self.look(time.monotonic())

    def look(self, now_s: float) -> None:
        beats = [seen.beat for seen in self._fleet.workers.values()]
        counted = {(beat.id, beat.boot): beat.started for beat in beats}
        for worker, started in counted.items():
            before = self._counted.get(worker)
            if before is None:
                continue  # what it had started before we met is not of this minute, as far as we know
            for queue, count in started.items():
                if count > before.get(queue, 0):
                    self._starts.setdefault(queue, deque()).append((now_s, count - before.get(queue, 0)))
        self._counted = counted

    def per_second(self, queue: str, now_s: float) -> float | None:
        """Over the last minute; None if too few to tell."""
        starts = self._starts.get(queue)
        if starts is None:
            return None
        while starts and starts[0][0] < now_s - _WINDOW_S:
            starts.popleft()
        total = sum(count for _, count in starts)
        return total / _WINDOW_S if total >= _MIN_STARTS else None


async def place(bus: Bus, starts: Starts, birth: wire.Birth) -> Place | None:
    """Where a queued job waits; None if its message has left the queue. Raises Unreachable, ApiError."""
    job = birth.job
    consumer = bus.subjects.consumer(job.model, job.version, job.lane)
    stream, subject = bus.subjects.jobs_stream, bus.subjects.jobs_of(job.model, job.version, job.lane)
    found = await bus.js.direct_next(stream, subject, birth.queue_seq)
    if found is None or found[0].seq != birth.queue_seq:
        return None
    position = max(0, await _waiting(bus, stream, subject, consumer) - found[1] - 1)
    rate = starts.per_second(consumer, time.monotonic())
    return Place(position, None if rate is None else round(position / rate, 1))


async def known_place(bus: Bus, starts: Starts, birth: wire.Birth) -> Place | None:
    """`place`; None too while the bus cannot tell, as during an election: what else is known of the job is told."""
    try:
        return await place(bus, starts, birth)
    except BusError as error:
        log.debug("queue.position_unknown", job=birth.job.id, tenant=birth.job.tenant, error=str(error))
        return None


async def _waiting(bus: Bus, stream: str, subject: str, consumer: str) -> int:
    """Jobs of this queue that no worker has been offered yet."""
    try:
        return int((await bus.js.api(f"CONSUMER.INFO.{stream}.{consumer}"))["num_pending"])
    except ApiError as error:
        if error.err_code != _CONSUMER_NOT_FOUND:
            raise
    first = await bus.js.direct_next(stream, subject, 1)  # no worker ever asked: all of them wait
    return 0 if first is None else first[1] + 1
