"""Whether the workers of a fleet live: one ping to each, again and again. Protocol rule 19.

Only no-responders is death, and only of a worker that has answered on this very connection: before that, its
subscription may not have reached our server yet. Another `boot` in the pong means that the old process is dead too. A
timeout is no sign of death: a frozen worker is left to ack_wait.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from bus import wire
from bus.errors import BusError, NoResponders
from bus.fleet.messages import Heartbeat, ModelCard, Pong
from bus.jobs.client import Bus
from bus.telemetry.logging import logger

log = logger(__name__)

#: Payload of a ping that requests the models' cards.
DESCRIBE: Final = b"describe"
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
