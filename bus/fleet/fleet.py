"""The fleet as one gateway knows it, from heartbeats and pings. Protocol rule 19.

A missed heartbeat is suspicion, shown to operators. A worker that is found dead loses its jobs: see `takeover`. No
gateway leads: per job, the lease elects the one that takes it away.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from bus import wire
from bus.errors import BusError
from bus.fleet.liveness import KnownWorker, Pings
from bus.fleet.messages import Heartbeat, ModelCard
from bus.fleet.takeover import Takeovers
from bus.jobs.client import Bus
from bus.subjects import JobKey, is_token, worker_of
from bus.telemetry.logging import logger
from bus.transport.parser import Message

log = logger(__name__)

#: Without a heartbeat for this long a worker is shown as `silent`.
_SILENT_S: Final = 3.0


class Fleet:
    """Known workers and their models, from `run` on."""

    def __init__(
        self,
        bus: Bus,
        ping_s: float,
        tasks: asyncio.TaskGroup,
        listened: Callable[[str], Iterable[JobKey]] = lambda worker: (),
        *,
        silent_s: float = _SILENT_S,
    ) -> None:
        """`ping_s`: interval of pings. `tasks` outlives `run`.

        `listened(worker)`: jobs that this process listens to and that `worker` may hold, whatever its heartbeats say.
        """
        self._bus = bus
        self._ping_s = ping_s
        self._tasks = tasks
        self._silent_s = silent_s
        self._workers: dict[str, KnownWorker] = {}
        self._pings = Pings(bus, self._workers, tasks, self._mark_dead)
        self._takeovers = Takeovers(bus, tasks, listened)
        #: The newest card of every model ever offered here, so that a fleet at rest is still known.
        self._known_cards: dict[str, ModelCard] = {}

    async def run(self) -> None:
        """Receive heartbeats and ping until cancelled. Takeovers that have begun go on in `tasks`."""
        heartbeats = self._bus.connection.subscribe(self._bus.subjects.all_heartbeats, self._on_heartbeat)
        try:
            while True:
                await asyncio.sleep(self._ping_s)
                self._pings.send(list(self._workers))
        finally:
            heartbeats.close()
            self._takeovers.close()

    @property
    def workers(self) -> Mapping[str, KnownWorker]:
        """Workers that are not known to be dead, by id."""
        return self._workers

    def is_silent(self, worker: KnownWorker) -> bool:
        """Whether its heartbeats have stopped."""
        return time.monotonic() - worker.heartbeat_at > self._silent_s

    @property
    def ready_workers(self) -> list[KnownWorker]:
        """Workers that would take a job now."""
        return [
            worker
            for worker in self._workers.values()
            if worker.heartbeat.state == "ready" and not self.is_silent(worker)
        ]

    def cards(self) -> dict[str, ModelCard]:
        """Models that known workers offer, by name."""
        return {card.name: card for worker in self._workers.values() for card in worker.cards}

    def card(self, model: str) -> ModelCard | None:
        """The model's card, even if no worker offers it just now; None if none ever did."""
        return self._known_cards.get(model)

    @property
    def known_models(self) -> list[str]:
        """Names of all models ever offered here, sorted."""
        return sorted(self._known_cards)

    def _on_heartbeat(self, message: Message) -> None:
        heartbeat = read_heartbeat(message)
        if heartbeat is None:
            return
        now = time.monotonic()
        worker = self._workers.get(heartbeat.id)
        if worker is None or worker.heartbeat.boot != heartbeat.boot:
            if worker is not None:
                self._mark_dead(worker, "another boot")
            log.info("worker.seen", worker=heartbeat.id, boot=heartbeat.boot, models=heartbeat.models)
            worker = self._workers[heartbeat.id] = KnownWorker(heartbeat, now)
        if not worker.cards or worker.heartbeat.cards != heartbeat.cards:
            self._tasks.create_task(self._describe(heartbeat.id), name=f"describe {heartbeat.id}")
        worker.heartbeat = heartbeat
        worker.heartbeat_at = now

    async def _describe(self, worker: str) -> None:
        cards = await self._pings.describe(worker)
        self._known_cards |= {card.name: card for card in cards}

    def _mark_dead(self, worker: KnownWorker, why: str) -> None:
        last = worker.heartbeat
        if last.state == "draining" and not last.held:
            log.info("worker.left", worker=last.id, boot=last.boot)
        else:
            log.warning("worker.died", worker=last.id, boot=last.boot, held=len(last.held), why=why)
        # Workers that leave jobs to this one should not wait for its silence.
        self._bus.connection.publish(self._bus.subjects.gone(last.id), last.boot.encode())
        self._takeovers.start(worker)


def read_heartbeat(message: Message) -> Heartbeat | None:
    """The heartbeat in `message`; None, and a log line, if it is not one or names another worker than its subject."""
    try:
        heartbeat = wire.decode(Heartbeat, message.data)
    except BusError as error:
        log.warning("fleet.malformed", subject=message.subject, error=str(error))
        return None
    if heartbeat.id != worker_of(message.subject) or not is_token(heartbeat.id):
        log.warning("fleet.malformed", subject=message.subject, error=f"id: {heartbeat.id!r} is not the subject's")
        return None
    if not all(is_token(held.tenant) and is_token(held.job) for held in heartbeat.held):
        log.warning("fleet.malformed", subject=message.subject, error="held: an entry does not name a job")
        return None
    return heartbeat
