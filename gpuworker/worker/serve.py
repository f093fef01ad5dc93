"""The worker process: one connection to the bus, one engine host, and the services beside them."""

import asyncio
import contextlib
import secrets
import time

import msgspec

from bus.fleet.messages import ModelCard
from bus.jobs.claim import Identity
from bus.jobs.client import open_bus
from bus.lifetime import background_tasks, fail_when_closed
from bus.settings import SettingsError
from bus.telemetry.logging import bound, logger
from bus.text import suggestion
from gpuworker import registry
from gpuworker import watermark as watermarks
from gpuworker.settings import WorkerSettings
from gpuworker.worker.supervise import ListenerCheck, Supervisor
from gpuworker.worker.worker import Described, Worker

log = logger(__name__)


class NothingToServe(RuntimeError):
    """None of the configured models can be served here."""


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain.

    Raises (in an ExceptionGroup, once running):
        NothingToServe: no configured model can be served.
        SettingsError: an option of an engine is unknown or wrong; in no group.
        DuplicateWorkerId: a live worker has this id.
        Unreachable: no NATS at the start, or it has closed the connection for good.
        OSError: the address of the metrics cannot be bound; in no group.
    """
    me = Identity(settings.id, secrets.token_hex(8))
    described = describe(settings)
    started_at = time.monotonic()
    with bound(worker=me.worker):
        async with open_bus(settings.bus, "worker") as bus:
            worker = Worker(bus, settings, me, described, stop)
            await worker.presence.ensure_unique_id()
            async with _metrics(worker, settings), background_tasks() as tasks:
                for service in (
                    worker.host.run(),
                    worker.presence.run(),
                    bus.clock.keep_synced(bus.js, bus.subjects.jobs_stream),
                    Supervisor(bus, worker.runs, worker.host, worker.storage, settings.stall_s).run(),
                    worker.storage.run(),
                    worker.voices.run(),
                    ListenerCheck(bus, worker.runs).run(),
                    fail_when_closed(bus.connection.state.closed),
                    _report_loading(worker, settings, started_at),
                ):
                    tasks.create_task(service)
                await worker.work()
            await bus.connection.flush()
            worker.blobs.close()
            worker.patrols.close()


def describe(settings: WorkerSettings) -> Described:
    """Cards of the configured models; a model that cannot even be described is logged.

    Raises NothingToServe if none is left, SettingsError for several watermarks, for options of an engine that is not
    installed, for options that a served engine does not have or refuses, and for wrong limits of quality.
    """
    for name in settings.configured_engines - set(registry.names()):
        raise SettingsError(f"options of an unknown engine: engines.{name}{suggestion(name, registry.names())}")
    known = {*registry.names(), *settings.known_models}
    for model in settings.quality.keys() - known:
        raise SettingsError(f"limits of an unknown model: quality.{model}{suggestion(model, known)}")
    cards: dict[str, ModelCard] = {}
    failed: dict[str, str] = {}
    watermark = watermarks.installed()
    for name in settings.models:
        try:
            for each in registry.served(name, settings.options_of(name)):
                if each.model in cards:
                    raise SettingsError(f"two models of this worker are called {each.model!r}")
                engine = registry.make_model(each, allow_faults=settings.allow_faults)
                card = registry.card(engine.capabilities())
                card = registry.limited(card, settings.quality.get(each.model, {}))
                cards[each.model] = msgspec.structs.replace(card, watermark=watermark)
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001  # an engine's module is foreign code; the others can be served
            failed[name] = f"{type(error).__name__}: {error}"
            log.error("model.unavailable", model=name, reason=failed[name])
    if not cards:
        raise NothingToServe(f"none of {', '.join(settings.models)} can be served here; `antiphon doctor` says why")
    return Described(cards, failed)


def _metrics(worker: Worker, settings: WorkerSettings) -> contextlib.AbstractAsyncContextManager[None]:
    if settings.metrics_port is None:
        return contextlib.nullcontext()
    from gpuworker.worker.metrics import serving  # noqa: PLC0415 - most workers serve no metrics

    return serving(worker, settings.metrics_host, settings.metrics_port)


async def _report_loading(worker: Worker, settings: WorkerSettings, started_at: float) -> None:
    """Log when all models have loaded or failed to. Raises NothingToServe if none has loaded then."""
    models = worker.host.models
    try:
        async with asyncio.timeout(settings.host_start_s):
            await models.settled.wait()
    except TimeoutError:
        log.warning("host.slow", waited_s=settings.host_start_s, loaded=sorted(models.loaded))
        return
    if not models.loaded:
        raise NothingToServe(f"no model could be loaded: {models.unavailable}")
    log.info("worker.ready", models=sorted(models.loaded), after_s=round(time.monotonic() - started_at, 3))
