"""Queue positions and ETAs, counted by the server and shown only when known (protocol rule 22)."""

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
#: Fewer starts in the window give no ETA.
_MIN_STARTS: Final = 5
_CONSUMER_NOT_FOUND: Final = 10014


class QueuePosition(msgspec.Struct, frozen=True, omit_defaults=True):
    """The place of a queued job."""

    #: Jobs of the same queue ahead of it.
    position: int
    #: Seconds until it starts; None with too few starts in the last minute.
    eta_s: float | None = None


class StartRates:
    """How many jobs each queue started in the last minute, from the counters in the workers' heartbeats."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        #: Counters at the last sample, by (worker, boot).
        self._counted: dict[tuple[str, str], dict[str, int]] = {}
        self._starts: dict[str, deque[tuple[float, int]]] = {}

    async def run(self) -> None:
        """Sample the heartbeats each second, until cancelled."""
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self.look(time.monotonic())

    def look(self, now_s: float) -> None:
        """Take one sample. `now_s`: monotonic seconds."""
        beats = [seen.heartbeat for seen in self._fleet.workers.values()]
        counted = {(beat.id, beat.boot): beat.started for beat in beats}
        for worker, started in counted.items():
            before = self._counted.get(worker)
            if before is None:
                continue  # its counters cover an unknown time before this gateway first saw it
            for queue, count in started.items():
                if count > before.get(queue, 0):
                    self._starts.setdefault(queue, deque()).append((now_s, count - before.get(queue, 0)))
        self._counted = counted

    def per_second(self, queue: str, now_s: float) -> float | None:
        """Starts per second over the last minute; None under five starts."""
        starts = self._starts.get(queue)
        if starts is None:
            return None
        while starts and starts[0][0] < now_s - _WINDOW_S:
            starts.popleft()
        total = sum(count for _, count in starts)
        return total / _WINDOW_S if total >= _MIN_STARTS else None


async def position(bus: Bus, starts: StartRates, birth: wire.Birth) -> QueuePosition | None:
    """The place of a queued job; None if its message has left the queue. Raises Unreachable, ApiError."""
    job = birth.job
    consumer = bus.subjects.consumer(job.model, job.version, job.lane)
    stream, subject = bus.subjects.jobs_stream, bus.subjects.jobs_of(job.model, job.version, job.lane)
    found = await bus.js.direct.next(stream, subject, birth.queue_seq)
    if found is None or found[0].seq != birth.queue_seq:
        return None
    ahead = max(0, await _waiting(bus, stream, subject, consumer) - found[1] - 1)
    rate = starts.per_second(consumer, time.monotonic())
    return QueuePosition(ahead, None if rate is None else round(ahead / rate, 1))


async def known_position(bus: Bus, starts: StartRates, birth: wire.Birth) -> QueuePosition | None:
    """As `position`; None too while the bus cannot answer, as during an election, so that the rest can be shown."""
    try:
        return await position(bus, starts, birth)
    except BusError as error:
        log.debug("queue.position_unknown", job=birth.job.id, tenant=birth.job.tenant, error=str(error))
        return None


async def _waiting(bus: Bus, stream: str, subject: str, consumer: str) -> int:
    """Jobs of this queue that have not been delivered to a worker yet."""
    try:
        return int((await bus.js.api(f"CONSUMER.INFO.{stream}.{consumer}"))["num_pending"])
    except ApiError as error:
        if error.err_code != _CONSUMER_NOT_FOUND:
            raise
    first = await bus.js.direct.next(stream, subject, 1)  # no worker has pulled yet: all of them wait
    return 0 if first is None else first[1] + 1
