"""`GET /metrics`: counters of this gateway, and gauges of the gateway, the fleet and the bus."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final

from aiohttp import web

from bus.blob_names import BlobNames
from bus.errors import ApiError, BusError
from bus.fleet.fleet import Fleet
from bus.jobs.client import Bus
from bus.jobs.interest import Interest
from bus.jobs.retention import Retention
from bus.subjects import Subjects, queue_of
from bus.telemetry.logging import logger
from bus.telemetry.metrics import CONTENT_TYPE, Metrics, Sample
from bus.transport.jetstream import is_missing_stream
from gateway.api.readiness import Readiness
from gateway.http.open_connections import OpenConnections
from gateway.http.operation import Answer, operation
from gateway.http.requests import Requests
from gateway.jobs.queue_position import StartRates
from gateway.jobs.service import Jobs
from gateway.limits.buffers import Buffers

log = logger(__name__)

#: Seconds between reads of the bus's state, however often clients request the metrics: no key is needed.
_READ_S: Final = 1.0
#: Seconds that such a read may take. During an election the bus cannot answer, and its gauges are absent.
_TIMEOUT_S: Final = 3.0
#: Share of this process's time that making the text may take: each text takes milliseconds, in which no audio is sent.
_SHARE: Final = 0.05
_STATES: Final = ("starting", "ready", "draining", "silent")
_BREAKER: Final = ("closed", "open", "trial")


def _names(subjects: Subjects) -> dict[str, str]:
    """Names of streams by their label in metrics, which does not depend on the deployment's root."""
    return {
        "jobs": subjects.jobs_stream,
        "replies": subjects.replies_stream,
        "dead": subjects.dead_stream,
        "hooks": subjects.hooks_stream,
        "keys": subjects.keys_stream,
        "usage": subjects.usage_stream,
        "links": subjects.links_stream,
        "blobs": BlobNames(subjects.root).stream,
    }


class Stores:
    """The state of the bus: bytes and messages of its streams, jobs in its queues."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = asyncio.Lock()
        self._read_at = -_READ_S
        #: JetStream's information of each stream, by its label.
        self.streams: dict[str, dict[str, Any]] = {}
        #: JetStream's information of each consumer of JOBS, by its name.
        self.queues: dict[str, dict[str, Any]] = {}

    async def refresh(self) -> None:
        """Read the state, unless it was read just now. State that cannot be read is dropped: the old one is stale."""
        async with self._lock:
            if time.monotonic() - self._read_at < _READ_S:
                return
            streams, queues = await asyncio.gather(_or_empty(self._streams()), _or_empty(self._queues()))
            self.streams = streams
            self.queues = queues
            self._read_at = time.monotonic()

    async def _streams(self) -> dict[str, dict[str, Any]]:
        names = _names(self._bus.subjects)
        found = await asyncio.gather(*map(self._stream, names.values()))
        return {name: info for name, info in zip(names, found, strict=True) if info is not None}

    async def _stream(self, stream: str) -> dict[str, Any] | None:
        try:
            return await self._bus.js.info(stream)
        except ApiError as error:
            if not is_missing_stream(error):
                raise
            return None  # a deployment older than the stream

    async def _queues(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        while True:
            body = {"offset": len(found)}
            page = await self._bus.js.api(f"CONSUMER.LIST.{self._bus.subjects.jobs_stream}", body)
            consumers = {info["name"]: info for info in page["consumers"] or ()}
            found |= consumers
            if not consumers or len(found) >= page["total"]:
                return found


async def _or_empty(read: Coroutine[Any, Any, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await read
    except (BusError, TimeoutError) as error:
        log.warning("metrics.read_failed", error=f"{type(error).__name__}: {error}")
        return {}


class RationedText:
    """Text that is made again only as often as its making takes a small share of this process's time."""

    def __init__(
        self,
        make: Callable[[], bytes],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """`cpu_s`: CPU seconds of this thread."""
        self._make = make
        self._clock_s = clock_s
        self._cpu_s = cpu_s
        self._text = b""
        self._next_at = 0.0

    def get(self) -> bytes:
        """The text, new or from a moment ago."""
        now_s = self._clock_s()
        if now_s >= self._next_at:
            began_s = self._cpu_s()
            self._text = self._make()
            self._next_at = now_s + (self._cpu_s() - began_s) / _SHARE
        return self._text


class GatewayMetrics:
    """The metrics of one gateway process."""

    def __init__(
        self,
        jobs: Jobs,
        fleet: Fleet,
        interest: Interest,
        retention: Retention,
        starts: StartRates,
        requests: Requests,
        buffers: Buffers,
        connections: OpenConnections,
        readiness: Readiness,
    ) -> None:
        self._bus = jobs.bus
        self._cache = jobs.cache
        self._reserved = jobs.admission.audio.table
        self._known_fleet = fleet
        self._interest = interest
        self._retention = retention
        self._starts = starts
        self._requests = requests
        self._buffers = buffers
        self._connections = connections
        self._readiness = readiness
        self._stores = Stores(jobs.bus)
        figures = Metrics("gateway", self._gauges)
        #: Counts log events for the length of a block.
        self.counting = figures.counting
        self._text = RationedText(figures.text)

    async def text(self) -> bytes:
        """Prometheus' text format, from now or a moment ago."""
        await self._stores.refresh()
        return self._text.get()

    def _gauges(self) -> Iterator[Sample]:
        yield Sample("antiphon_ready", not self._readiness.missing())
        yield Sample("antiphon_nats_up", self._bus.connection.state.is_up)
        yield Sample("antiphon_requests", len(self._requests))
        yield Sample("antiphon_buffer_bytes", self._buffers.total_bytes)
        yield Sample("antiphon_buffer_limit_bytes", self._buffers.capacity_bytes)
        yield Sample("antiphon_connections", self._connections.total)
        yield Sample("antiphon_connections_limit", self._connections.capacity)
        yield Sample("antiphon_listeners", self._interest.num_listeners)
        yield Sample("antiphon_clock_skew_seconds", self._bus.clock.skew_s)
        yield Sample("antiphon_clock_step_seconds", self._bus.clock.step_s)
        for how, count in self._cache.counts.items():
            yield Sample("antiphon_cache_answers_total", count, (how,))
        yield from self._fleet()
        yield from self._store()
        yield from self._queued()

    def _fleet(self) -> Iterator[Sample]:
        fleet = self._known_fleet
        live = [seen.heartbeat for seen in fleet.workers.values() if not fleet.is_silent(seen)]
        states = Counter(beat.state for beat in live)
        states["silent"] = len(fleet.workers) - len(live)
        breakers = Counter(beat.breaker for beat in live)
        for state in _STATES:
            yield Sample("antiphon_workers", states[state], (state,))
        for state in _BREAKER:
            yield Sample("antiphon_fleet_breakers", breakers[state], (state,))
        yield Sample("antiphon_fleet_slots", sum(beat.slots for beat in live))
        yield Sample("antiphon_fleet_slots_used", sum(len(beat.held) for beat in live))

    def _store(self) -> Iterator[Sample]:
        names, full = _names(self._bus.subjects), self._retention.full
        yield Sample("antiphon_reserved_bytes", self._reserved.total_bytes)
        for name in ("jobs", "replies"):
            yield Sample("antiphon_admission_refusing", names[name] in full, (name,))
        for name, info in self._stores.streams.items():
            yield Sample("antiphon_stream_bytes", info["state"]["bytes"], (name,))
            yield Sample("antiphon_stream_messages", info["state"]["messages"], (name,))
            if (limit := info["config"].get("max_bytes", -1)) > 0:
                yield Sample("antiphon_stream_limit_bytes", limit, (name,))

    def _queued(self) -> Iterator[Sample]:
        starts, now_s = self._starts, time.monotonic()
        for consumer, info in self._stores.queues.items():
            labels, waiting = tuple(queue_of(consumer)), info["num_pending"]
            yield Sample("antiphon_queue_jobs", waiting, labels)
            yield Sample("antiphon_queue_offered_jobs", info["num_ack_pending"], labels)
            if (rate := starts.per_second(consumer, now_s)) is not None:
                yield Sample("antiphon_queue_eta_seconds", waiting / rate, labels)


METRICS: Final = web.AppKey("metrics", GatewayMetrics)


async def counting(app: web.Application) -> AsyncIterator[None]:
    """Count for the life of the application."""
    with app[METRICS].counting():
        yield


@operation(
    "Metrics for Prometheus, in its text format.",
    text="Needs no key, like `/health`: the figures are of all tenants together, and name none.",
    answers={200: Answer("One line per series.", str, ("text/plain",))},
    is_open=True,
)
async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`."""
    return web.Response(body=await request.app[METRICS].text(), headers={"Content-Type": CONTENT_TYPE})
