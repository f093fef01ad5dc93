"""A worker's parts put together: its life (take jobs until it is stopped, then drain) and its heartbeat."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bus import wire
from bus.fleet.messages import Draining, Heartbeat, Held, ModelCard
from bus.fleet.presence import Presence, cards_digest
from bus.jobs.attempts import AttemptLimits
from bus.jobs.claim import Claims, Identity
from bus.jobs.client import Bus
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gpuworker.settings import WorkerSettings
from gpuworker.worker.blob_cache import BlobCache
from gpuworker.worker.deliveries import Deliveries, Slots
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.installed_voices import InstalledVoices
from gpuworker.worker.intake import Intake
from gpuworker.worker.patrol import Patrols
from gpuworker.worker.patrol_budget import Budget
from gpuworker.worker.peers import Peers
from gpuworker.worker.pull_loop import PullLoop
from gpuworker.worker.run import Run
from gpuworker.worker.run_files import RunFiles
from gpuworker.worker.storage import StorageGate
from gpuworker.worker.stream import HandBack

log = logger(__name__)

#: Characters of a reason in a heartbeat; the log has all of it.
_MAX_REASON: Final = 400


class Described(NamedTuple):
    """The models of a worker before one is loaded."""

    #: By model, in order of preference.
    cards: dict[str, ModelCard]
    #: Reason by model that cannot even be described.
    failed: dict[str, str]


class Worker:
    """One worker process. `host.run()` and `presence.run()` must run beside `work()`."""

    def __init__(
        self,
        bus: Bus,
        settings: WorkerSettings,
        me: Identity,
        described: Described,
        stop: asyncio.Event,
    ) -> None:
        """`stop` ends the work; a drain request over the bus sets it too."""
        cards = described.cards
        self._bus = bus
        self._settings = settings
        self._cards = cards
        self._stop = stop
        self.presence = Presence(bus, me.worker, me.boot, self.heartbeat, self._on_revoked, self._on_drain_request)
        self.presence.cards = list(cards.values())
        self._peers = Peers(bus, settings, self._on_peers_change)
        capacity = asyncio.Event()
        self._intake = Intake(settings, self._peers, self.presence.changed, capacity.set)
        self.voices = InstalledVoices(bus, cards, self._on_voices_change)
        self.blobs = BlobCache(bus, settings.blob_cache, settings.blob_cache_bytes)
        self.host = EngineHost(
            list(cards), settings, RunFiles(self.blobs, self.voices), self._on_host_change, self._intake.breaker.fault
        )
        claims = Claims(bus.logs, bus.clock, me, AttemptLimits(settings.max_attempts, settings.max_host_deaths))
        self.storage = StorageGate(bus, lambda: bool(self.runs), self._peers.num_live)
        self.patrols = Patrols(Budget(time.monotonic()))
        self._deliveries = Deliveries(
            bus, self.host, claims, cards, self._intake, self.storage, self.patrols, self.presence.changed
        )
        self._slots = Slots(self._intake, self.host, self._deliveries.handle, capacity.set)
        self._pull_loop = PullLoop(
            bus, cards, self.host, self._peers, self._slots.num_free, self._slots.deliver, capacity
        )
        self._heartbeats = HeartbeatBuilder(
            me, settings, described, self.host, self._intake, self._slots, self._deliveries
        )

    @property
    def runs(self) -> Mapping[JobKey, Run]:
        """Jobs that run here now."""
        return self._deliveries.runs

    @property
    def models(self) -> list[str]:
        """Models that it is configured to serve and can describe."""
        return list(self._cards)

    def heartbeat(self) -> Heartbeat:
        """The heartbeat as of now."""
        return self._heartbeats.build()

    async def work(self) -> None:
        """Take jobs until stopped, then drain: running jobs get `drain_s`, the rest is handed back mid-stream.

        An exception that it raises means that the process is unsound; a job's failure is not raised. Cancelling leaves
        the leases as they are.
        """
        async with asyncio.TaskGroup() as tasks:
            self._slots.open(tasks)
            unsubscribe = self._peers.listen()
            pulling = tasks.create_task(self._pull_loop.run(), name="pull")
            await self._stop.wait()
            self._intake.close()
            self.presence.changed()
            log.info("worker.draining", jobs=self._slots.num_used, drain_s=self._settings.drain_s)
            pulling.cancel()
            unsubscribe()
            await self._slots.drain(self._settings.drain_s, self._hand_back)

    def _hand_back(self) -> None:
        for run in list(self.runs.values()):
            run.interrupt(HandBack("its worker is draining"))

    def _on_host_change(self) -> None:
        self._peers.offer(self._heartbeats.offered_models, is_loading=self.host.models.is_loading)
        self._pull_loop.models_changed()
        self.presence.changed()

    def _on_voices_change(self) -> None:
        self.presence.cards = list(self._cards.values())
        self._heartbeats.cards_changed()
        self.presence.changed()

    def _on_peers_change(self) -> None:
        self._intake.peers_changed()

    def _on_drain_request(self) -> Draining:
        log.info("worker.drain_requested")
        self._stop.set()
        return Draining(held=len(self.runs), drain_s=self._settings.drain_s)

    def _on_revoked(self, message: wire.Stop) -> None:
        key = self._bus.subjects.job_key(message.tenant, message.job)
        if key in self.runs:
            self._slots.spawn(self._deliveries.check_lease(key), f"check {message.job}")


class HeartbeatBuilder:
    """Reads the worker's parts; changes none of them."""

    def __init__(
        self,
        me: Identity,
        settings: WorkerSettings,
        described: Described,
        host: EngineHost,
        intake: Intake,
        slots: Slots,
        deliveries: Deliveries,
    ) -> None:
        self._me = me
        self._settings = settings
        self._cards = described.cards
        self._failed = described.failed
        self.cards_changed()
        self._host = host
        self._intake = intake
        self._slots = slots
        self._deliveries = deliveries

    def cards_changed(self) -> None:
        """The cards are others: the next heartbeat says so."""
        self._digest = cards_digest(list(self._cards.values()))

    @property
    def offered_models(self) -> list[str]:
        """Models that are loaded here or still may be."""
        return [model for model in self._cards if model not in self._host.models.unavailable]

    def build(self) -> Heartbeat:
        """The heartbeat as of now."""
        host, settings, breaker = self._host, self._settings, self._intake.breaker
        state = "draining" if self._intake.is_closed else "ready" if host.models.loaded else "starting"
        return Heartbeat(
            id=self._me.worker,
            boot=self._me.boot,
            pid=os.getpid(),
            host=socket.gethostname(),
            state=state,
            models=self.offered_models,
            cards=self._digest,
            slots=settings.slots,
            held=[Held(key.tenant, key.job) for key in self._deliveries.runs],
            started=dict(self._deliveries.num_started),
            rss_bytes=(_resident_bytes(host.pid) or 0) if host.is_up else 0,
            device=settings.device,
            device_bytes=host.models.device_bytes,
            breaker="closed" if breaker.is_closed else breaker.state,
            weight=settings.weight,
            backup=settings.backup,
            loading=host.models.is_loading,
            free=self._slots.num_vacant(),
            failed={model: why[:_MAX_REASON] for model, why in (self._failed | host.models.unavailable).items()},
        )


def _resident_bytes(pid: int | None) -> int | None:
    """Main memory of a process; None if there is no such process, or no /proc."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
