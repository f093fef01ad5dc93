"""The fleet as one gateway knows it, from heartbeats and pings. Protocol rule 19.

A missed heartbeat is suspicion, shown to operators. A worker that is found dead loses its jobs: see `takeover`. No
gateway leads: per job, the lease elects the one that takes it away.

Whether a worker lives is found by one ping to each, again and again. Only no-responders is death, and only of a worker
that has answered on this very connection: before that, its subscription may not have reached our server yet. Another
`boot` in the pong means that the old process is dead too. A timeout is no sign of death: a frozen worker is left to
ack_wait.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from bus import wire
from bus.errors import BusError, NoResponders
from bus.fleet.messages import DESCRIBE, Heartbeat, ModelCard, Pong
from bus.fleet.offers import Offers, Unserved
from bus.fleet.takeover import Takeovers
from bus.jobs.client import Bus
from bus.subjects import JobKey, is_token, worker_of
from bus.telemetry.logging import logger
from bus.transport.parser import Message

log = logger(__name__)

#: Without a heartbeat for this long a worker is shown as `silent`.
_SILENT_S: Final = 3.0
#: A worker that never answered a ping is forgotten after this silence; its jobs went by their leases.
_FORGET_S: Final = 60.0
_PONG_S: Final = 2.0


class KnownWorker(msgspec.Struct):
    """A worker as this process knows it. Times are monotonic seconds."""

    heartbeat: Heartbeat
    #: When that heartbeat arrived.
    heartbeat_at: float
    #: Connection generation of its last pong; -1 before the first one.
    answered_in: int = -1
    #: When its last pong arrived; None before the first one.
    pong_at: float | None = None
    #: Cards of its models; empty until it has described them.
    cards: list[ModelCard] = []

    @property
    def id(self) -> str:
        """The worker's id."""
        return self.heartbeat.id

    def answered(self, generation: int) -> None:
        """A pong arrived on the connection of `generation`."""
        self.answered_in = generation
        self.pong_at = time.monotonic()


class Pings:
    """Pings workers. `workers` is shared with its owner; a dead or forgotten worker is removed from it here."""

    def __init__(
        self,
        bus: Bus,
        workers: dict[str, KnownWorker],
        tasks: asyncio.TaskGroup,
        on_death: Callable[[KnownWorker, str], None],
    ) -> None:
        """`on_death(worker, why)` is called once for each worker that is found dead."""
        self._bus = bus
        self._workers = workers
        self._tasks = tasks
        self._on_death = on_death
        self._under_way: set[str] = set()

    def send(self, workers: Iterable[str]) -> None:
        """Ping each of `workers`, except those whose last ping is still under way."""
        for worker in workers:
            if worker not in self._under_way:
                self._under_way.add(worker)
                self._tasks.create_task(self._ping(worker), name=f"ping {worker}")

    async def describe(self, worker: str) -> list[ModelCard]:
        """Request a worker's models' cards. Empty if it does not answer: its next heartbeat leads to another try."""
        generation = self._bus.connection.state.generation
        try:
            answer = await self._bus.connection.request(self._bus.subjects.ping(worker), DESCRIBE)
            pong = wire.decode(Pong, answer.data)
        except BusError as error:
            log.debug("fleet.describe_failed", worker=worker, error=str(error))
            return []
        known = self._workers.get(worker)
        if known is None or known.heartbeat.boot != pong.boot:
            return []
        known.answered(generation)
        known.cards = pong.cards
        return pong.cards

    async def _ping(self, worker: str) -> None:
        state = self._bus.connection.state
        generation = state.generation
        try:
            answer = await self._bus.connection.request(self._bus.subjects.ping(worker), timeout_s=_PONG_S)
            boot = wire.decode(Pong, answer.data).boot
        except NoResponders:
            known = self._workers.get(worker)
            if known is not None and known.answered_in == generation == state.generation:
                self._on_death(self._workers.pop(worker), "no responders")
            elif known is not None and time.monotonic() - known.heartbeat_at > _FORGET_S:
                del self._workers[worker]
        except BusError as error:
            log.debug("fleet.ping_failed", worker=worker, error=str(error))
        else:
            known = self._workers.get(worker)
            if known is not None and known.heartbeat.boot == boot:
                known.answered(generation)
            elif known is not None:
                self._on_death(self._workers.pop(worker), "another boot")
        finally:
            self._under_way.discard(worker)


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
        self._offers = Offers()
        #: By model, the card of the version that a request without one gets; `Offers.cards`.
        self.known_cards: Final = self._offers.cards
        #: By model and version, every card ever offered here.
        self.known_versions: Final = self._offers.versions
        #: Every family that a card ever offered here belongs to.
        self.families: Final = self._offers.families
        self.unserved: Final = Unserved()

    async def run(self) -> None:
        """Receive heartbeats and ping until cancelled. Takeovers that have begun go on in `tasks`."""
        heartbeats = self._bus.connection.subscribe(self._bus.subjects.all_heartbeats, self._on_heartbeat)
        try:
            while True:
                await asyncio.sleep(self._ping_s)
                self._pings.send(list(self._workers))
                # Not by a clock: the heartbeats of a time in which this process stood still are in its socket.
                if self._bus.connection.state.is_up:
                    self.unserved.tick(self._ping_s)
                else:
                    self.unserved.clear()
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
        """Models that known workers offer, by name, in the version that a request without one gets."""
        return {
            card.name: self.known_cards.get(card.name, card)
            for worker in self._workers.values()
            for card in worker.cards
        }

    def members(self, family: str) -> list[ModelCard]:
        """Models of that family that a worker would take a job of now, all its models being loaded; by name.

        Each has the voices that all its workers have, by digest: any of them may be given the job.
        """
        found: dict[str, ModelCard] = {}
        for worker in self.ready_workers:
            offered = () if worker.heartbeat.loading else worker.cards
            for card in offered:
                if card.version != self.known_cards[card.name].version:
                    continue
                if card.family == family and card.name in worker.heartbeat.models:
                    found[card.name] = card.shared_with(found.get(card.name, card))
        return [found[name] for name in sorted(found)]

    def card(self, model: str) -> ModelCard | None:
        """The card of the model, in the version that a request without one gets, even if no worker offers it just now.

        None if none ever did.
        """
        return self.known_cards.get(model)

    @property
    def known_models(self) -> list[str]:
        """Names of all models ever offered here, sorted."""
        return sorted(self.known_cards)

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
        is_other_state = worker.heartbeat.state != heartbeat.state
        worker.heartbeat = heartbeat
        worker.heartbeat_at = now
        self.unserved.beat(heartbeat, worker.cards)
        if is_other_state:
            self._offers.settle(worker.cards, _taking(self._workers.values()))

    async def _describe(self, worker: str) -> None:
        cards = await self._pings.describe(worker)
        self._offers.add(cards)
        self.unserved.describe(cards)
        self._offers.settle(cards, _taking(self._workers.values()))

    def _mark_dead(self, worker: KnownWorker, why: str) -> None:
        last = worker.heartbeat
        self._workers.pop(last.id, None)
        self._offers.settle(worker.cards, _taking(self._workers.values()))
        if last.state == "draining" and not last.held:
            log.info("worker.left", worker=last.id, boot=last.boot)
        else:
            log.warning("worker.died", worker=last.id, boot=last.boot, held=len(last.held), why=why)
        # Workers that leave jobs to this one should not wait for its silence.
        self._bus.connection.publish(self._bus.subjects.gone(last.id), last.boot.encode())
        self._takeovers.start(last, worker.pong_at)


def _taking(workers: Iterable[KnownWorker]) -> Iterator[ModelCard]:
    """The cards of the workers that do not drain."""
    for worker in workers:
        if worker.heartbeat.state != "draining":
            yield from worker.cards


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
