"""Listeners of jobs: interest is a subscription (protocol rule 16).

While at least one listener of a job is here, this process subscribes `<root>.listen.<tenant>.<job>` and answers on it.
When the last one leaves, it unsubscribes, waits the job's `linger_s`, sends a request to the subject itself, and ends
the job if there are no responders. A process that dies just stops answering: the worker notices, and waits longer.

After a NATS reconnect no responders count only after a grace period: another gateway may come back later than this one.
A listener that leaves during an outage is settled after it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from bus import wire
from bus.errors import BusError, NoResponders, NotFound, Unreachable
from bus.jobs.log import Logs
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.connection import Connection, Subscription
from bus.transport.parser import Message

log = logger(__name__)

#: Why a job was cancelled whose last listener left.
LEFT: Final = "left"
#: Why a job was cancelled whose worker found no listeners, more than once.
NO_LISTENERS: Final = "no listeners any more"
#: After an outage longer than this a leaving is not settled here; the worker finds that there are no listeners.
_OUTAGE_S: Final = 120.0
_ANSWER_S: Final = 2.0


async def has_listeners(connection: Connection, key: JobKey) -> bool:
    """Whether any process listens to a job. Only no-responders means no.

    Raises Unreachable if the server, or a listener, does not answer: then it is not known.
    """
    try:
        await connection.request(key.listen, timeout_s=_ANSWER_S)
    except NoResponders:
        return False
    return True


class Listener:
    """One listener. Set `saw_end` once the terminal entry was read; leaving then does not end the job."""

    __slots__ = ("saw_end",)

    def __init__(self) -> None:
        self.saw_end = False


class Interest:
    """This process's listeners."""

    def __init__(self, connection: Connection, logs: Logs, tasks: asyncio.TaskGroup) -> None:
        """`tasks` outlives every listener: leaving is settled there, after the listener's own task is gone."""
        self._connection = connection
        self._logs = logs
        self._tasks = tasks
        self._listeners: dict[JobKey, tuple[int, Subscription]] = {}
        #: The worker of the latest attempt that a listener saw begin, by job.
        self._workers: dict[JobKey, str] = {}
        self._is_closing = False

    def close(self) -> None:
        """This process ends: its listeners did not leave, they may come back through another one."""
        self._is_closing = True

    @contextlib.asynccontextmanager
    async def listen(self, key: JobKey, *, run_on: bool, linger_s: float) -> AsyncIterator["Listener"]:
        """Be a listener for the length of the block. Enter it before publishing or attaching (no gap without one).

        The job ends when its last listener leaves, unless it runs on. Cancelling the block is leaving.
        """
        count, subscription = self._listeners.get(key, (0, None))
        if subscription is None:
            subscription = self._connection.subscribe(key.listen, self._answer)
        self._listeners[key] = (count + 1, subscription)
        listener = Listener()
        try:
            yield listener
        finally:
            if self._was_last(key) and not (run_on or listener.saw_end or self._is_closing):
                self._tasks.create_task(self.end_if_abandoned(key, linger_s), name=f"left {key.job}")

    @property
    def num_listeners(self) -> int:
        """Listeners here, of all jobs together."""
        return sum(count for count, _ in self._listeners.values())

    def first_entry_from(self, key: JobKey, worker: str) -> None:
        """A listener of `key` received the first entry of an attempt by `worker`."""
        if key in self._listeners:
            self._workers[key] = worker

    def maybe_held_by(self, worker: str) -> list[JobKey]:
        """Jobs listened to here that `worker` may hold: the latest attempt was its, or none has been seen yet."""
        return [key for key in self._listeners if self._workers.get(key, worker) == worker]

    def _answer(self, message: Message) -> None:
        if message.reply:
            self._connection.publish(message.reply, b"1")

    def _was_last(self, key: JobKey) -> bool:
        count, subscription = self._listeners[key]
        if count > 1:
            self._listeners[key] = (count - 1, subscription)
            return False
        del self._listeners[key]
        self._workers.pop(key, None)
        subscription.close()
        return True

    async def end_if_abandoned(self, key: JobKey, linger_s: float) -> None:
        """The last listener here left: wait `linger_s`, then end the job unless another process listens.

        Cancelling leaves that to the job's worker. Failures are logged, not raised.
        """
        try:
            if linger_s > 0:
                await asyncio.sleep(linger_s)
            while not await self._is_settled(key):
                await self._connection.state.wait_up(_OUTAGE_S)
        except NotFound:
            return  # it was never accepted
        except Unreachable as error:
            # The worker looks for listeners too, every 10 s, and ends the job if none comes back.
            log.warning("job.abandon_failed", job=key.job, tenant=key.tenant, error=str(error))
        except BusError as error:
            log.error("job.abandon_failed", job=key.job, tenant=key.tenant, error=str(error))

    async def _is_settled(self, key: JobKey) -> bool:
        """End the job unless it has listeners. False: the connection was down meanwhile, look again when it is back.

        Raises as `Logs.end`; Unreachable if a listener does not answer, so that it is not known.
        """
        state = self._connection.state
        generation = state.generation
        try:
            await self._connection.flush()
        except Unreachable:
            return False  # no answer from the server: if it is gone or hangs, the connection goes down seconds later
        try:
            await state.wait_for_peers()
            is_listened = await has_listeners(self._connection, key)
            if state.generation != generation:
                return False  # the request went out right after a reconnect, when others may not have been back
            if not is_listened:
                ended = await self._logs.end(key, wire.End.CANCELLED, LEFT)
                log.info("job.abandoned", job=key.job, tenant=key.tenant, ended=ended)
        except Unreachable:
            if state.is_up and state.generation == generation:
                raise
            return False
        return True
