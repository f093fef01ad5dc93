"""The fleet as one gateway sees it, and the taking away of dead workers' jobs. Protocol rule 19.

Every gateway pings every worker. Only no-responders is death, and only of a worker that has answered on this very
connection; another `boot` in the pong means that the old process is dead too. A missed heartbeat is suspicion, shown to
operators; a frozen worker is left to ack_wait. No gateway leads: per job, the lease elects who takes it away.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import msgspec

from bus import wire
from bus.errors import BusError, Fenced, NoResponders, Unreachable
from bus.fleet.messages import Heartbeat, ModelCard, Pong
from bus.fleet.presence import DESCRIBE, Seen, beat_of
from bus.fleet.takeover import Death, Takeovers
from bus.jobs.client import Bus
from bus.jobs.delivery import ack, give_back
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.parser import Message

log = logger(__name__)

#: Without a heartbeat for this long a worker is shown as `silent`.
_SILENT_S = 3.0
#: … and for this long it is forgotten: whatever it held went by its lease.
_FORGET_S = 60.0
#: Leases read, at a worker's death, of jobs that it may hold without having said so.
_MAX_UNSAID = 200


class Fleet:
    def __init__(
        self,
        bus: Bus,
        ping_s: float,
        tasks: asyncio.TaskGroup,
        listened: Callable[[str], Iterable[JobKey]] = lambda worker: (),
    ) -> None:
        """`listened`: jobs that this process listens to and that a worker may hold, whatever its heartbeats say."""
        self._bus, self._ping_s, self._tasks, self._listened = bus, ping_s, tasks, listened
        self._workers: dict[str, Seen] = {}
        self._pinging: set[str] = set()
        self._takeovers = Takeovers(bus.connection)
        #: The newest card of every model ever offered here, so that a fleet at rest is still known.
        self._known: dict[str, ModelCard] = {}

    async def run(self) -> None:
        """Listen and ping until cancelled."""
        heartbeats = self._bus.connection.subscribe(self._bus.subjects.all_heartbeats, self._heard)
        try:
            while True:
                await asyncio.sleep(self._ping_s)
                for worker in list(self._workers):
                    if worker not in self._pinging:
                        self._pinging.add(worker)
                        self._tasks.create_task(self._ping(worker), name=f"ping {worker}")
        finally:
            heartbeats.close()
            self._takeovers.close()

    # What is known

    @property
    def workers(self) -> Mapping[str, Seen]:
        return self._workers

    def is_silent(self, seen: Seen) -> bool:
        return time.monotonic() - seen.heard_at > _SILENT_S

    @property
    def ready(self) -> bool:
        """Whether at least one worker would take a job now."""
        return any(seen.beat.state == "ready" and not self.is_silent(seen) for seen in self._workers.values())

    def cards(self) -> dict[str, ModelCard]:
        """Models that live workers offer, by name."""
        return {card.name: card for seen in self._workers.values() for card in seen.cards}

    def card(self, model: str) -> ModelCard | None:
        """The model's card, even if nobody offers it just now; None if nobody ever did."""
        return self._known.get(model)

    @property
    def known_models(self) -> list[str]:
        return sorted(self._known)

    def starts(self, consumer: str) -> int:
        """Jobs ever started from this consumer by the workers that are known."""
        return sum(seen.beat.started.get(consumer, 0) for seen in self._workers.values())

    # How it is learnt

    def _heard(self, message: Message) -> None:
        beat = beat_of(message)
        if beat is None:
            return
        seen = self._workers.get(beat.id)
        now = time.monotonic()
        if seen is None or seen.beat.boot != beat.boot:
            if seen is not None:
                self._bury(seen, "another boot")
            log.info("worker.seen", worker=beat.id, boot=beat.boot, models=beat.models)
            seen = self._workers[beat.id] = Seen(beat, now)
        if not seen.cards or seen.beat.cards != beat.cards:
            self._tasks.create_task(self._describe(beat.id), name=f"describe {beat.id}")
        seen.beat, seen.heard_at = beat, now

    async def _describe(self, worker: str) -> None:
        generation = self._bus.connection.state.generation
        try:
            answer = await self._bus.connection.request(self._bus.subjects.ping(worker), DESCRIBE)
            pong = wire.decode(Pong, answer.data)
        except BusError as error:
            log.debug("fleet.describe_failed", worker=worker, error=str(error))  # the next heartbeat asks again
            return
        seen = self._workers.get(worker)
        if seen is not None and seen.beat.boot == pong.boot:
            seen.cards, seen.answered_in, seen.ponged_at = pong.cards, generation, time.monotonic()
            self._known |= {card.name: card for card in pong.cards}

    async def _ping(self, worker: str) -> None:
        generation = self._bus.connection.state.generation
        try:
            answer = await self._bus.connection.request(self._bus.subjects.ping(worker), timeout_s=2.0)
            boot = wire.decode(Pong, answer.data).boot
        except NoResponders:
            seen = self._workers.get(worker)
            if seen is not None and seen.answered_in == generation == self._bus.connection.state.generation:
                self._bury(self._workers.pop(worker), "no responders")
            elif seen is not None and time.monotonic() - seen.heard_at > _FORGET_S:
                del self._workers[worker]
        except (Unreachable, BusError) as error:
            log.debug("fleet.ping_failed", worker=worker, error=str(error))
        else:
            seen = self._workers.get(worker)
            if seen is not None and seen.beat.boot == boot:
                seen.answered_in, seen.ponged_at = generation, time.monotonic()
            elif seen is not None:
                self._bury(self._workers.pop(worker), "another boot")
        finally:
            self._pinging.discard(worker)

    # Taking away

    def _bury(self, dead: Seen, why: str) -> None:
        if dead.beat.state == "draining" and not dead.beat.held:
            log.info("worker.left", worker=dead.beat.id, boot=dead.beat.boot)
        else:
            log.warning("worker.died", worker=dead.beat.id, boot=dead.beat.boot, held=len(dead.beat.held), why=why)
        # Workers that stand back for this one should not wait for its silence.
        self._bus.connection.publish(self._bus.subjects.gone(dead.beat.id), dead.beat.boot.encode())
        death = Death(dead.beat.id, time.monotonic(), dead.ponged_at)
        held = {self._bus.subjects.job_key(each.tenant, each.job) for each in dead.beat.held}
        # What it took since its last heartbeat is in none; but whoever suffers from that listens, here or elsewhere.
        unsaid = islice((key for key in self._listened(dead.beat.id) if key not in held), _MAX_UNSAID)
        for key in (*held, *unsaid):
            self._tasks.create_task(self._take_away(dead.beat, key, death), name=f"take away {key.job}")

    async def _take_away(self, dead: Heartbeat, key: JobKey, death: Death) -> None:
        """Set the lease from the dead worker's to `interrupted`; the gateway that wins NAKs that lease's delivery.

        A job that the worker had ended is not taken; its delivery is acknowledged in the worker's stead.
        """
        watch = self._takeovers.begin(key, death)
        taken = await self._took_away(dead, key)
        if watch is not None and taken:
            watch.taken()
        elif watch is not None:
            watch.close()

    async def _took_away(self, dead: Heartbeat, key: JobKey) -> bool:
        try:
            found = await self._bus.logs.lease(key)
            if (
                found is None
                or found[1].state != wire.LeaseState.RUNNING
                or (found[1].worker, found[1].boot) != (dead.id, dead.boot)
            ):
                return False
            tail = await self._bus.logs.tail(key)
            if tail is not None and tail.is_end:  # its last word; nobody will begin again
                ack(self._bus.connection, found[1].ack)
                return False
            interrupted = msgspec.structs.replace(found[1], state=wire.LeaseState.INTERRUPTED, detail="its worker died")
            await self._bus.logs.take(key, interrupted, found[0])
        except Fenced:
            return False  # another gateway, or a worker, was faster
        except BusError as error:
            log.warning("takeover.failed", job=key.job, tenant=key.tenant, error=str(error))
            return False
        give_back(self._bus.connection, found[1].ack)
        log.info("takeover.started", job=key.job, tenant=key.tenant, worker=dead.id)
        return True
