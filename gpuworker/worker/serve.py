"""The worker process: one bus, one engine host, its slots."""

import asyncio
import contextlib
import secrets
import time

from bus.fleet.messages import ModelCard
from bus.jobs.claim import Identity
from bus.jobs.client import open_bus
from bus.lifetime import background_tasks, fail_when_closed
from bus.telemetry.logging import bound, logger
from gpuworker import registry
from gpuworker.settings import WorkerSettings
from gpuworker.worker.supervise import Supervisor
from gpuworker.worker.worker import Worker

log = logger(__name__)


class NothingToServe(RuntimeError):
    """None of the models asked for can be served here."""


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain.

    Raises (in an ExceptionGroup, once running):
        NothingToServe: no model asked for can be served.
        TwoWorkers: a live worker has this id.
        Unreachable: no NATS at the start, or it has closed the connection for good.
        OSError: the address of the metrics cannot be bound; in no group.
    """
    me = Identity(settings.id, secrets.token_hex(8))
    cards = describe(settings)
    began = time.monotonic()
    with bound(worker=me.worker):
        async with open_bus(settings.bus, "worker") as bus:
            worker = Worker(bus, settings, me, cards, stop)
            await worker.presence.refuse_a_twin()
            async with _metrics(worker, settings), background_tasks() as tasks:
                for service in (
                    worker.host.run(),
                    worker.presence.run(),
                    bus.clock.keep(bus.js, bus.subjects.jobs_stream),
                    Supervisor(bus, worker, settings.stall_s).run(),
                    fail_when_closed(bus.connection.closed),
                    _announce(worker, settings, began),
                ):
                    tasks.create_task(service)
                await worker.work()
            await bus.connection.flush()


def describe(settings: WorkerSettings) -> dict[str, ModelCard]:
    """Cards of the models asked for, by name; one that cannot even be described is logged and left out."""
    cards: dict[str, ModelCard] = {}
    for name in settings.models:
        try:
            card = registry.card(registry.make(name, {}, allow_faults=settings.allow_faults).capabilities())
        except Exception as error:  # noqa: BLE001  # an engine's module is foreign code; the others can be served
            log.error("model.unavailable", model=name, reason=f"{type(error).__name__}: {error}")
        else:
            cards[name] = card
    if not cards:
        raise NothingToServe(f"none of {', '.join(settings.models)} can be served here; `antiphon doctor` says why")
    return cards


def _metrics(worker: Worker, settings: WorkerSettings) -> contextlib.AbstractAsyncContextManager[None]:
    if settings.metrics_port is None:
        return contextlib.nullcontext()
    from gpuworker.worker.metrics import serving  # noqa: PLC0415 - what most workers do without

    return serving(worker, settings.metrics_host, settings.metrics_port)


async def _announce(worker: Worker, settings: WorkerSettings, began: float) -> None:
    """Say when all models have loaded or failed to; end the process if none has within `host_start_s`."""
    try:
        async with asyncio.timeout(settings.host_start_s):
            await worker.host.settled.wait()
    except TimeoutError:
        log.warning("host.slow", waited_s=settings.host_start_s, loaded=sorted(worker.host.loaded))
        return
    if not worker.host.loaded:
        raise NothingToServe(f"no model could be loaded: {worker.host.unavailable}")
    log.info("worker.ready", models=sorted(worker.host.loaded), after_s=round(time.monotonic() - began, 3))
