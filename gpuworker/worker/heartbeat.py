"""The worker's heartbeat: its state, its models and the jobs that it holds."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from bus.fleet.messages import Heartbeat, Held, ModelCard
from bus.fleet.presence import cards_digest
from bus.jobs.claim import Identity
from gpuworker.settings import WorkerSettings
from gpuworker.worker.deliveries import Deliveries
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.intake import Intake
from gpuworker.worker.slots import Slots


class HeartbeatBuilder:
    """Reads the worker's parts; changes none of them."""

    def __init__(
        self,
        me: Identity,
        settings: WorkerSettings,
        cards: Mapping[str, ModelCard],
        host: EngineHost,
        intake: Intake,
        slots: Slots,
        deliveries: Deliveries,
    ) -> None:
        self._me = me
        self._settings = settings
        self._cards = cards
        self._digest = cards_digest(list(cards.values()))
        self._host = host
        self._intake = intake
        self._slots = slots
        self._deliveries = deliveries

    @property
    def offered_models(self) -> list[str]:
        """Models that are loaded here or still may be."""
        return [model for model in self._cards if model not in self._host.models.unavailable]

    def build(self) -> Heartbeat:
        """The heartbeat as of now."""
        host, settings = self._host, self._settings
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
            breaker=self._intake.health.state,
            weight=settings.weight,
            backup=settings.backup,
            loading=host.models.is_loading,
            free=self._slots.num_vacant(),
        )


def _resident_bytes(pid: int | None) -> int | None:
    """Main memory of a process; None if there is no such process, or no /proc."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
