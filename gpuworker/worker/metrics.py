"""A worker's metrics, served from a thread of their own: `--metrics-port`."""

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
#: How long a scrape waits for the event loop, which alone may look at the worker.
_LOOK_S: Final = 2.0


@contextlib.asynccontextmanager
async def serving(worker: Worker, host: str, port: int) -> AsyncIterator[None]:
    """Count what the worker does and let it be read for the length of the block. Raises OSError."""
    loop = asyncio.get_running_loop()

    async def look() -> list[Sample]:
        return list(stands(worker))

    def looked() -> list[Sample]:
        """From the server's thread; nothing while the loop stands still."""
        found = asyncio.run_coroutine_threadsafe(look(), loop)
        try:
            return found.result(_LOOK_S)
        except TimeoutError:
            found.cancel()
            log.warning("metrics.read_failed", error=f"the worker's loop did not answer within {_LOOK_S:g} s")
            return []

    metrics = Metrics("worker", looked)
    with metrics.counting():
        bound_port, close = await asyncio.to_thread(metrics.serve, host, port)
        shown = f"[{host}]" if ":" in host else host
        log.info("metrics.ready", url=f"http://{shown}:{bound_port}/metrics")
        try:
            yield
        finally:
            await asyncio.to_thread(close)


def stands(worker: Worker) -> Iterator[Sample]:
    """How the worker stands: what its heartbeat of now would say, and what its host takes."""
    beat, host = worker.beat(), worker.host
    for state in _STATES:
        yield Sample("antiphon_worker_state", beat.state == state, (state,))
    for turn in State:
        yield Sample("antiphon_breaker", beat.breaker == turn, (turn,))
    yield Sample("antiphon_slots", beat.slots)
    yield Sample("antiphon_slots_used", len(beat.held))
    for model in worker.models:
        yield Sample("antiphon_model_loaded", model in host.loaded, (model,))
    if beat.rss_bytes:
        yield Sample("antiphon_host_resident_bytes", beat.rss_bytes)
    if beat.device_bytes is not None:
        yield Sample("antiphon_device_bytes", beat.device_bytes)
