"""A worker's presence: heartbeats, pongs, and the word that a lease was taken. Protocol rules 13 and 19."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence

import msgspec

from bus import wire
from bus.errors import BusError, NoResponders, Unreachable
from bus.fleet.messages import Draining, Heartbeat, ModelCard, Pong
from bus.jobs.client import Bus
from bus.subjects import is_token, worker_of
from bus.telemetry.logging import logger
from bus.transport.parser import Message

log = logger(__name__)

DESCRIBE = b"describe"
_HEARTBEAT_S = 1.0
#: Changes of what is held go out at once, but not more often than this: a burst of short jobs is one message.
_GATHER_S = 0.1
#: For an answer to whether somebody else has our id: nats-server may just be gone, and the other one frozen.
_TWIN_S = 30.0


class TwoWorkers(BusError):
    """A live worker with the same id answers."""


def cards_digest(cards: Sequence[ModelCard]) -> str:
    return hashlib.sha256(wire.encode(list(cards))).hexdigest()[:16]


class Presence:
    """Speaks for one worker until `run` is cancelled."""

    def __init__(
        self,
        bus: Bus,
        worker: str,
        boot: str,
        beat: Callable[[], Heartbeat],
        stopped: Callable[[wire.Stop], None],
        drain: Callable[[], Draining] | None = None,
    ) -> None:
        """`beat` makes the heartbeat of now; `stopped` is told that a lease of ours may have been taken.

        `drain` begins to drain and says so; without it nobody can ask for that.
        """
        self._bus, self._worker, self._boot, self._beat, self._stopped = bus, worker, boot, beat, stopped
        self._drain = drain
        self.cards: list[ModelCard] = []
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """What is held, or the state, has changed: beat soon."""
        self._changed.set()

    async def refuse_a_twin(self) -> None:
        """Raises TwoWorkers if a live worker answers to our id, Unreachable if for `_TWIN_S` nobody tells."""
        connection = self._bus.connection

        async def answer_of_a_twin() -> Message | None:
            generation = connection.state.generation
            await connection.state.wait_for_peers()
            try:
                return await connection.request(self._bus.subjects.ping(self._worker), timeout_s=2.0)
            except NoResponders:
                if connection.state.generation != generation:
                    raise Unreachable("asked as soon as the bus was back, when others may not have been") from None
                return None

        answer = await self._bus.js.retry(f"ask for another {self._worker}", answer_of_a_twin, _TWIN_S)
        if answer is None:
            return
        boot = wire.decode(Pong, answer.data).boot
        raise TwoWorkers(f"worker id {self._worker!r} is taken by a live worker (boot {boot}); choose another --id")

    async def run(self) -> None:
        """Answer pings, beat each second and at every change. Cancelling makes the worker dead to the fleet."""
        connection, subjects = self._bus.connection, self._bus.subjects
        ping = connection.subscribe(subjects.ping(self._worker), self._pong)
        stop = connection.subscribe(subjects.stop(self._worker), self._word)
        drain = connection.subscribe(subjects.drain(self._worker), self._asked_to_drain) if self._drain else None
        try:
            while True:
                self._changed.clear()
                connection.publish(subjects.heartbeat(self._worker), wire.encode(self._beat()))
                await asyncio.sleep(_GATHER_S)
                try:
                    async with asyncio.timeout(_HEARTBEAT_S - _GATHER_S):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            # So that whoever finds us gone knows how we went.
            connection.publish(subjects.heartbeat(self._worker), wire.encode(self._beat()))
            for subscription in (ping, stop, drain):
                if subscription is not None:
                    subscription.close()

    def _pong(self, message: Message) -> None:
        if message.reply:
            cards = self.cards if message.data == DESCRIBE else []
            self._bus.connection.publish(message.reply, wire.encode(Pong(boot=self._boot, cards=cards)))

    def _asked_to_drain(self, message: Message) -> None:
        if self._drain is not None:
            answer = self._drain()
            if message.reply:
                self._bus.connection.publish(message.reply, wire.encode(answer))

    def _word(self, message: Message) -> None:
        self._stopped(wire.decode(wire.Stop, message.data))


class Seen(msgspec.Struct):
    """A worker as this process knows it."""

    beat: Heartbeat
    #: Monotonic seconds of its last heartbeat.
    heard_at: float
    #: Connection generation in which it answered a ping; only such a worker can be found dead by no-responders.
    answered_in: int = -1
    #: Monotonic seconds of its last pong; None before the first.
    ponged_at: float | None = None
    cards: list[ModelCard] = []


def beat_of(message: Message) -> Heartbeat | None:
    """The heartbeat in `message`; None (and a log line) if it is not one, or speaks for somebody else."""
    try:
        beat = wire.decode(Heartbeat, message.data)
    except BusError as error:
        log.warning("fleet.malformed", subject=message.subject, error=str(error))
        return None
    if beat.id != worker_of(message.subject) or not is_token(beat.id):
        log.warning("fleet.malformed", subject=message.subject, error=f"speaks for {beat.id!r}")
        return None
    if not all(is_token(held.tenant) and is_token(held.job) for held in beat.held):
        log.warning("fleet.malformed", subject=message.subject, error="holds what is no job")
        return None
    return beat
