"""A worker's presence on the bus: heartbeats, pongs, and requests to stop a job or to drain. Protocol rules 13, 19."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from bus import wire
from bus.errors import BusError, NoResponders, Unreachable
from bus.fleet.messages import DESCRIBE, Draining, Heartbeat, ModelCard, Pong
from bus.jobs.client import Bus
from bus.transport.parser import Message

_HEARTBEAT_S: Final = 1.0
#: Heartbeats after a change are this far apart at least: a burst of short jobs is one message.
_GATHER_S: Final = 0.1
#: How long to wait for an answer to whether the id is taken: NATS may be away, and the other worker frozen.
_UNIQUE_S: Final = 30.0


class DuplicateWorkerId(BusError):
    """A live worker with the same id answers: start under another one."""


def cards_digest(cards: Sequence[ModelCard]) -> str:
    """16 hexadecimal digits that change when the cards do: `Heartbeat.cards`."""
    return hashlib.sha256(wire.encode(list(cards))).hexdigest()[:16]


class Presence:
    """Publishes heartbeats and answers requests for one worker until `run` is cancelled."""

    def __init__(
        self,
        bus: Bus,
        worker: str,
        boot: str,
        heartbeat: Callable[[], Heartbeat],
        on_stop: Callable[[wire.Stop], None],
        on_drain: Callable[[], Draining] | None = None,
        *,
        heartbeat_s: float = _HEARTBEAT_S,
        gather_s: float = _GATHER_S,
    ) -> None:
        """`heartbeat` makes the one of now. `on_stop` is called when a lease of this worker may have been taken.

        `on_drain` begins to drain; without it requests to drain have no responder.
        """
        self._bus = bus
        self._worker = worker
        self._boot = boot
        self._heartbeat_subject = bus.subjects.heartbeat(worker)
        self._heartbeat = heartbeat
        self._on_stop = on_stop
        self._on_drain = on_drain
        self._heartbeat_s = heartbeat_s
        self._gather_s = gather_s
        #: Sent to a ping that says `describe`.
        self.cards: list[ModelCard] = []
        self._changed = asyncio.Event()
        #: To be called when the held jobs or the state have changed: a heartbeat is published soon.
        self.changed = self._changed.set

    async def ensure_unique_id(self) -> None:
        """Raises DuplicateWorkerId if a live worker has our id, Unreachable if that is not known after `_UNIQUE_S`."""
        connection = self._bus.connection

        async def ping() -> Message | None:
            """The other worker's answer; None if there is no such worker."""
            generation = connection.state.generation
            await connection.state.wait_for_peers()
            try:
                return await connection.request(self._bus.subjects.ping(self._worker), timeout_s=2.0)
            except NoResponders:
                if connection.state.generation != generation:
                    raise Unreachable("NATS came back during the ping; the other worker may not have yet") from None
                return None

        answer = await self._bus.js.retry(f"ping of another worker {self._worker!r}", ping, _UNIQUE_S)
        if answer is None:
            return
        boot = wire.decode(Pong, answer.data).boot
        raise DuplicateWorkerId(f"id: {self._worker!r} is taken by a live worker (boot {boot}); choose another --id")

    async def run(self) -> None:
        """Answer pings; publish a heartbeat each second and at every change. Cancelled, it publishes a last one."""
        connection, subjects = self._bus.connection, self._bus.subjects
        subscriptions = [
            connection.subscribe(subjects.ping(self._worker), self._on_ping),
            connection.subscribe(subjects.stop(self._worker), self._on_stop_message),
        ]
        if self._on_drain is not None:
            subscriptions.append(connection.subscribe(subjects.drain(self._worker), self._on_drain_request))
        try:
            while True:
                self._changed.clear()
                self._publish_heartbeat()
                await asyncio.sleep(self._gather_s)
                try:
                    async with asyncio.timeout(self._heartbeat_s - self._gather_s):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            self._publish_heartbeat()  # its state says whether the worker drained or died
            for subscription in subscriptions:
                subscription.close()

    def _publish_heartbeat(self) -> None:
        self._bus.connection.publish(self._heartbeat_subject, wire.encode(self._heartbeat()))

    def _on_ping(self, message: Message) -> None:
        if message.reply:
            cards = self.cards if message.data == DESCRIBE else []
            self._bus.connection.publish(message.reply, wire.encode(Pong(boot=self._boot, cards=cards)))

    def _on_drain_request(self, message: Message) -> None:
        if self._on_drain is not None:
            answer = self._on_drain()
            if message.reply:
                self._bus.connection.publish(message.reply, wire.encode(answer))

    def _on_stop_message(self, message: Message) -> None:
        self._on_stop(wire.decode(wire.Stop, message.data))
