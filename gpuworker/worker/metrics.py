"""A worker's Prometheus metrics, served by a thread of their own: `--metrics-port`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from bus.telemetry.logging import logger
from bus.telemetry.metrics import Metrics, Sample
from gpuworker.worker.breaker import State
from gpuworker.worker.worker import Worker

log = logger(__name__)

_STATES: Final = ("starting", "ready", "draining")
#: How long a scrape waits for the event loop; only code on the loop may read the worker's state.
_READ_TIMEOUT_S: Final = 2.0


@contextlib.asynccontextmanager
async def serving(worker: Worker, host: str, port: int) -> AsyncIterator[None]:
    """Count the worker's events and serve its metrics for the length of the block. Raises OSError."""
    loop = asyncio.get_running_loop()

    async def read() -> list[Sample]:
        """The samples, on the loop."""
        return list(samples(worker))

    def read_from_thread() -> list[Sample]:
        """The samples; none if the loop does not answer in time."""
        reading = asyncio.run_coroutine_threadsafe(read(), loop)
        try:
            return reading.result(_READ_TIMEOUT_S)
        except TimeoutError:
            reading.cancel()
            log.warning("metrics.read_failed", error=f"the worker's loop did not answer within {_READ_TIMEOUT_S:g} s")
            return []

    metrics = Metrics("worker", read_from_thread)
    with metrics.counting():
        bound_port, close = await asyncio.to_thread(metrics.serve, host, port)
        shown = f"[{host}]" if ":" in host else host
        log.info("metrics.ready", url=f"http://{shown}:{bound_port}/metrics")
        try:
            yield
        finally:
            await asyncio.to_thread(close)


def samples(worker: Worker) -> Iterator[Sample]:
    """The worker's state now, as its heartbeat reports it, and the memory of its host."""
    beat = worker.heartbeat()
    for state in _STATES:
        yield Sample("antiphon_worker_state", beat.state == state, (state,))
    for breaker_state in State:
        yield Sample("antiphon_breaker", beat.breaker == breaker_state, (breaker_state,))
    yield Sample("antiphon_slots", beat.slots)
    yield Sample("antiphon_quality_processor_seconds_total", worker.patrols.spent_s)
    yield Sample("antiphon_slots_used", len(beat.held))
    yield Sample("antiphon_jobs_waiting", sum(run.waits_for_room for run in worker.runs.values()), ("storage",))
    for model in worker.models:
        yield Sample("antiphon_model_loaded", model in worker.host.models.loaded, (model,))
    if beat.rss_bytes:
        yield Sample("antiphon_host_resident_bytes", beat.rss_bytes)
    if beat.device_bytes is not None:
        yield Sample("antiphon_device_bytes", beat.device_bytes)
