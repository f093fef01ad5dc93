"""Pulls jobs of the models that are loaded, and starts again whenever those change."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from bus.errors import Unreachable
from bus.fleet.messages import ModelCard
from bus.jobs.client import Bus
from bus.jobs.lanes import Lane
from bus.jobs.puller import Puller, PullSettings
from bus.subjects import LANES
from bus.telemetry.logging import logger
from bus.transport.pull import Delivery
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.peers import Peers

log = logger(__name__)

#: Low priority and short polls: a standing pull would win jobs ahead of a primary worker that becomes free.
_BACKUP_PULLS: Final = PullSettings(priority=1, poll_s=0.05)


class PullLoop:
    """Runs one `Puller` at a time."""

    def __init__(
        self,
        bus: Bus,
        cards: Mapping[str, ModelCard],
        host: EngineHost,
        peers: Peers,
        num_free: Callable[[], int],
        deliver: Callable[[Delivery], None],
        capacity: asyncio.Event,
    ) -> None:
        """`num_free()`: jobs that may be pulled now. `deliver` takes each of them. `capacity`: set when more may be."""
        self._bus = bus
        self._cards = cards
        self._host = host
        self._peers = peers
        self._num_free = num_free
        self._deliver = deliver
        self._capacity = capacity
        self._models_changed = asyncio.Event()

    def models_changed(self) -> None:
        """The loaded models, or whether this worker yields to primaries, may have changed."""
        self._models_changed.set()

    async def run(self) -> None:
        """Pull until cancelled; open pulls are withdrawn then."""
        while True:
            self._models_changed.clear()
            models = sorted(self._host.models.loaded)
            if not models:
                await self._models_changed.wait()
                continue
            try:
                lanes = await self._declare_lanes(models)
            except Unreachable as error:  # no JetStream leader; running jobs go on, and the declaration is repeated
                log.warning("pull.declare_failed", error=str(error))
                continue
            settings = _BACKUP_PULLS if self._peers.yields_to_primaries else PullSettings()
            connection, stream = self._bus.connection, self._bus.subjects.jobs_stream
            puller = Puller(connection, stream, lanes, self._num_free, self._deliver, settings, self._capacity)
            await self._pull_until_models_change(puller)

    async def _declare_lanes(self, models: list[str]) -> list[Lane]:
        """A lane's consumers of all `models`, most urgent lane first. Raises Unreachable."""
        consumers = [await self._bus.topology.declare_consumers(model, self._cards[model].version) for model in models]
        return [Lane(lane, tuple(names[rank] for names in consumers)) for rank, lane in enumerate(LANES)]

    async def _pull_until_models_change(self, puller: Puller) -> None:
        pulling = asyncio.ensure_future(puller.run())
        changed = asyncio.ensure_future(self._models_changed.wait())
        try:
            done, _ = await asyncio.wait({pulling, changed}, return_when=asyncio.FIRST_COMPLETED)
            if pulling in done:
                pulling.result()
        finally:
            changed.cancel()
            pulling.cancel()
            await asyncio.wait({pulling})
