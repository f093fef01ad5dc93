"""Who listens: interest is a subscription (protocol rule 16).

While at least one listener of a job is here, this process subscribes `<root>.listen.<tenant>.<job>` and answers on it.
When the last one leaves, it stops, waits the job's `linger_s`, asks the subject itself, and if nobody answers anywhere,
ends the job. A process that dies just stops answering: the worker notices, and waits longer.

After an outage of the bus nobody is taken for gone at once: whoever still listens may come back to the server later
than the one who asks. And who leaves during an outage is settled after it.
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
#: … and one whose worker asked for listeners, more than once, and was not answered.
UNHEARD: Final = "nobody listens any more"
#: How long an outage may last for a leaving to be settled behind it; then it is the worker's to find out.
_OUTAGE_S: Final = 120.0


async def anybody_listens(connection: Connection, key: JobKey) -> bool:
    """Ask. Only no-responders is a no; silence is not. Raises Unreachable if nothing can be told."""
    try:
        await connection.request(key.listen, timeout_s=2.0)
    except NoResponders:
        return False
    return True


class Listener:
    """One pair of ears. Set `saw_end` when the log's end was read: then leaving needs no settling."""

    __slots__ = ("saw_end",)

    def __init__(self) -> None:
        self.saw_end = False


class Interest:
    """This process's listeners."""

    def __init__(self, connection: Connection, logs: Logs, tasks: asyncio.TaskGroup) -> None:
        """`tasks` outlives every listener: leaving is settled there, after the listener's own task is gone."""
        self._connection, self._logs, self._tasks = connection, logs, tasks
        self._listeners: dict[JobKey, tuple[int, Subscription]] = {}
        #: Who was last heard to speak, by job.
        self._speakers: dict[JobKey, str] = {}
        self._closing = False

    def close(self) -> None:
        """This process ends: its listeners did not leave, they may come back through another one."""
        self._closing = True

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
            if self._was_last(key) and not (run_on or listener.saw_end or self._closing):
                self._tasks.create_task(self.left(key, linger_s), name=f"left {key.job}")

    @property
    def num_listeners(self) -> int:
        """Of all jobs."""
        return sum(count for count, _ in self._listeners.values())

    def spoke(self, key: JobKey, worker: str) -> None:
        """A listener of `key` heard `worker` begin."""
        if key in self._listeners:
            self._speakers[key] = worker

    def maybe_held_by(self, worker: str) -> list[JobKey]:
        """Jobs listened to here that `worker` may hold: it was the last one heard, or nobody was heard yet."""
        return [key for key in self._listeners if self._speakers.get(key, worker) == worker]

    def _answer(self, message: Message) -> None:
        if message.reply:
            self._connection.publish(message.reply, b"1")

    def _was_last(self, key: JobKey) -> bool:
        count, subscription = self._listeners[key]
        if count > 1:
            self._listeners[key] = (count - 1, subscription)
            return False
        del self._listeners[key]
        self._speakers.pop(key, None)
        subscription.close()
        return True

    async def left(self, key: JobKey, linger_s: float) -> None:
        """Settle that the last listener left: end the job unless somebody listens after `linger_s`."""
        try:
            if linger_s > 0:
                await asyncio.sleep(linger_s)
            while not await self._settled(key):
                await self._connection.state.wait_up(_OUTAGE_S)
        except NotFound:
            return  # it was never accepted
        except Unreachable as error:
            # The worker asks too, every 10 s: it ends the job if nobody comes back.
            log.warning("job.abandon_failed", job=key.job, tenant=key.tenant, error=str(error))
        except BusError as error:
            log.error("job.abandon_failed", job=key.job, tenant=key.tenant, error=str(error))

    async def _settled(self, key: JobKey) -> bool:
        """End the job unless somebody listens; False: the bus was away meanwhile, look again once it is back.

        Raises as `Logs.end`; Unreachable if whoever listens does not answer, so that nothing can be told.
        """
        connection = self._connection
        generation = connection.state.generation
        try:
            await connection.flush()
        except Unreachable:
            return False  # the server says nothing: if it is gone or hangs, we are told only seconds later
        try:
            await connection.state.wait_for_peers()
            is_heard = await anybody_listens(connection, key)
            if connection.state.generation != generation:
                return False  # asked as soon as it was back, when others may not have been
            if not is_heard:
                ended = await self._logs.end(key, wire.End.CANCELLED, LEFT)
                log.info("job.abandoned", job=key.job, tenant=key.tenant, ended=ended)
        except Unreachable:
            if connection.state.is_up and connection.state.generation == generation:
                raise
            return False
        return True
