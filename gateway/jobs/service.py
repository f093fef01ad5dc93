"""The one way for every API to work with jobs: validate, accept, find, cancel, listen."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from bus import wire
from bus.errors import BusError, NotFound, Unreachable
from bus.fleet.messages import ModelCard
from bus.jobs.attach import Attachment
from bus.jobs.birth import next_deadline
from bus.jobs.client import Bus
from bus.jobs.interest import Interest, Listener
from bus.jobs.retention import Retention
from bus.jobs.status import Status, status
from bus.jobs.submit import Accepted, submit
from bus.subjects import LANES, JobKey
from bus.telemetry.logging import logger
from bus.wire import State
from gateway.jobs.cache import ResultCache
from gateway.jobs.damaged_logs import DamagedLogs
from gateway.jobs.queue_position import QueuePosition, StartRates, known_position
from gateway.jobs.validation import Validation
from gateway.limits.admission import Admission, Place
from gateway.limits.queue_room import MESSAGE_BYTES, SMALL_INPUT_CHARS

log = logger(__name__)

#: Bytes of entries that wait in this process for one slow client; beyond it the client reads back from the log.
MAX_BUFFER_BYTES: Final = 256 << 10


#: The lane of requests that wait for their answer: they are refused when no worker can give it.
URGENT: Final = LANES[0]
#: Deadlines further away have no timer here: the worker that pulls the job, and requests about it, look.
_MAX_AHEAD_S: Final = 3600.0
_MAX_TIMERS: Final = 20_000
#: Seconds until the next try while NATS does not answer.
_RETRY_S: Final = 2.0


class Deadlines:
    """Timers of the jobs that this process accepted.

    A job expires when a process looks at it after its time (protocol rule 14). This process looks by a timer for each
    job that it accepted, and at every request about a job. No process scans.
    """

    def __init__(self, bus: Bus, tasks: asyncio.TaskGroup) -> None:
        """`tasks` outlives every request."""
        self._bus = bus
        self._tasks = tasks
        self._timers: dict[JobKey, asyncio.TimerHandle] = {}

    def watch(self, key: JobKey, birth: wire.Birth, *, has_audio: bool = False) -> None:
        """End the job at its time, unless it has ended or is forgotten by then. `has_audio`: its log has a block."""
        left_s = next_deadline(birth, has_audio)[0] - self._bus.clock.now()
        if left_s <= _MAX_AHEAD_S and len(self._timers) < _MAX_TIMERS:
            self._arm(key, birth, left_s)

    def forget(self, key: JobKey) -> None:
        """Drop the timer of a job that has ended."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Drop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _arm(self, key: JobKey, birth: wire.Birth, delay_s: float) -> None:
        self.forget(key)
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(max(0.0, delay_s), self._due, key, birth)

    def _due(self, key: JobKey, birth: wire.Birth) -> None:
        del self._timers[key]
        self._tasks.create_task(self._expire(key, birth), name=f"expire {key.job}")

    async def _expire(self, key: JobKey, birth: wire.Birth) -> None:
        try:
            found = await self.look(key)
        except Unreachable:
            self._arm(key, birth, _RETRY_S)
        except BusError as error:
            log.warning("job.expire_failed", job=key.job, tenant=key.tenant, error=str(error))
        else:
            if not found.is_ended:  # its audio has begun, or the bus's clock was set back meanwhile
                self.watch(key, birth, has_audio=found.position.frame > 0)

    async def look(self, key: JobKey) -> Status:
        """The status of the job; one whose time has come is ended first.

        Raises NotFound, Gone, Unreachable.
        """
        found = await status(self._bus.logs, key)
        due_s, why = next_deadline(found.birth, found.position.frame > 0)
        if found.is_ended or self._bus.clock.now() < due_s:
            return found
        ended = await self._bus.logs.end(key, wire.End.EXPIRED, why)
        log.info("job.expired", job=key.job, tenant=key.tenant, ended=ended)
        return await status(self._bus.logs, key)


class Jobs:
    """The jobs of one gateway process; the state of a job itself lies in its log alone."""

    def __init__(
        self,
        bus: Bus,
        validation: Validation,
        admission: Admission,
        interest: Interest,
        deadlines: Deadlines,
        starts: StartRates,
        retention: Retention,
        cache: ResultCache,
        tasks: asyncio.TaskGroup,
        stopping: asyncio.Event,
    ) -> None:
        """`tasks` outlives every request; `stopping` is set once this process is to stop."""
        self.bus = bus
        self.cache = cache
        self.damaged = DamagedLogs(bus.logs)
        self.starts = starts
        self._validation = validation
        self.admission = admission
        self._interest = interest
        self._deadlines = deadlines
        self._retention = retention
        self._tasks = tasks
        self._stopping = stopping

    def key(self, tenant: str, job_id: str) -> JobKey:
        """The key of a tenant's job. Raises NotFound for text that cannot be an id."""
        try:
            return self.bus.subjects.job_key(tenant, job_id)
        except ValueError as error:
            raise NotFound(f"id: {error}") from error

    def card(self, model: str, version: str = "") -> ModelCard:
        """The card of a model. Raises UnknownModel, or NoWorker if no worker has been seen yet."""
        return self._validation.card(model, version)

    def validate(self, job: wire.Job, *, streams: bool, size_hint_bytes: int, language: str = "") -> wire.Job:
        """`job` with every default in place; see `Validation.complete`. Raises Invalid, UnknownModel, NoWorker."""
        return self._validation.complete(job, streams=streams, size_hint_bytes=size_hint_bytes, language=language)

    async def accept(self, job: wire.Job, listener: Listener | None = None) -> Accepted:
        """Put a validated job on the bus and watch its deadline; `listener` is the one that waits for its audio.

        Raises as `bus.jobs.submit.submit` does, Invalid for an input that is no blob of the tenant, StorageFull while
        the streams are nearly full, and TooMany; NoWorker for an urgent job with a listener. Cancelling may leave a job
        of which it is not yet known whether it is queued: a task of its own settles that.
        """
        if job.inputs:
            await self.admission.inputs.hold(job)
        if self._retention.is_full:
            self._retention.check_room(job.tenant, job.max_bytes, self.admission.audio.table.pool.owners)
        key = self.bus.subjects.job_key(job.tenant, job.id)
        is_urgent = listener is not None and job.lane == URGENT
        if is_urgent and self._validation.is_unserved(job) and await self.bus.logs.birth(key) is None:
            self._validation.check_served(job)  # a job that exists may have its audio
        admission, place, length = self.admission, None, len(job.input or wire.text_of(job))
        is_small = length <= SMALL_INPUT_CHARS and job.max_bytes <= admission.audio.small_bytes
        if job.client.key or not is_small or admission.queue.allowance_bytes < 0:
            place = await admission.admit(key, job)
        else:
            admission.queue.allowance_bytes -= length + MESSAGE_BYTES
        try:
            accepted = await submit(self.bus, job)
        except asyncio.CancelledError:
            if listener is not None and not self._stopping.is_set():
                listener.saw_end = True
                self._tasks.create_task(self._settle(key, job, place), name=f"settle {job.id}")
            raise
        except Unreachable:
            raise  # the job may be queued although the answer is missing: it counts until its log has been read
        except BaseException:
            self.admission.refused(place)
            raise
        if accepted.is_new:
            log.debug("job.accepted", job=job.id, tenant=job.tenant, model=job.model, lane=job.lane)
        if place is not None:
            self.admission.queued(place, accepted)
        self._deadlines.watch(key, accepted.birth)
        return accepted

    async def _settle(self, key: JobKey, job: wire.Job, place: Place | None) -> None:
        """Finish an acceptance that was cancelled: a second submit attaches to the job, or completes it."""
        try:
            self.admission.queued(place, await submit(self.bus, job))
        except BusError as error:
            log.warning("job.abandon_failed", job=job.id, tenant=job.tenant, error=str(error))
            return
        if not job.run_on:
            await self._interest.end_if_abandoned(key, job.linger_s)

    async def find(self, key: JobKey) -> Status:
        """Where the job stands; one past its deadline is ended first. Raises NotFound, Gone, Unreachable."""
        return await self._deadlines.look(key)

    async def queue_position(self, birth: wire.Birth) -> QueuePosition | None:
        """The place of a queued job; None if it has left the queue, or while the bus cannot answer."""
        return await known_position(self.bus, self.starts, birth)

    async def cancel(self, key: JobKey, why: str) -> State:
        """End the job unless it has ended; the state it ended in. Raises NotFound, Gone, Unreachable."""
        found = await self.find(key)
        if found.is_ended:
            return found.state
        ended = await self.bus.logs.end(key, wire.End.CANCELLED, why)
        self.ended(key)
        return State(ended)

    @contextlib.asynccontextmanager
    async def listen(
        self, key: JobKey, job: wire.Job, *, is_new: bool = True, after_seq: int = 0, run_on: bool | None = None
    ) -> AsyncIterator[tuple[Listener, Attachment]]:
        """Count as a listener of the job and subscribe to its log, for the length of the block.

        Enter it before the job is accepted: there must be a listener before there is work, and a subscription before
        there is audio. Leaving the block before the end of the log ends the job, unless it runs on or others listen.

        `is_new`: nothing is in the log yet. Reading an urgent job then raises NoWorker before its first entry, if no
        worker serves its model. `after_seq`: stream sequence to read from. `run_on`: the job's own, unless given.
        """
        run_on = job.run_on is not False if run_on is None else run_on
        is_urgent = is_new and job.lane == URGENT
        async with self._interest.listen(key, run_on=run_on, linger_s=job.linger_s) as listener:
            attachment = Attachment(
                self.bus.connection,
                self.bus.logs,
                key,
                is_new=is_new,
                after_seq=after_seq,
                max_buffer_bytes=MAX_BUFFER_BYTES,
                check_waiting=partial(self._validation.check_served, job) if is_urgent else None,
            )
            async with attachment:
                yield listener, attachment

    def first_entry_from(self, key: JobKey, worker: str) -> None:
        """A listener of `key` received the first entry of an attempt by `worker`, which holds the job from now on."""
        self._interest.first_entry_from(key, worker)

    def ended(self, key: JobKey) -> None:
        """The terminal entry of `key` was read: its timer and its place under the limits are freed."""
        self._deadlines.forget(key)
        if self.admission.counted or self.admission.reserved:
            self.admission.ended(key)
