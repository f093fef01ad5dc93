"""From a delivery to one outcome, in a slot of its own.

The job is claimed and run, or the delivery is adopted by the run that is under way here already.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from bus import wire
from bus.errors import BusError, Full, Unreachable
from bus.fleet.messages import ModelCard
from bus.jobs.claim import Claim, Claims
from bus.jobs.client import Bus
from bus.jobs.giving_up import Refusal
from bus.jobs.inputs import check_known
from bus.jobs.scripts import check_turns
from bus.jobs.validate import AudioLimit, check_length, usable_id
from bus.subjects import JobKey
from bus.telemetry.logging import bound, logger
from bus.transport.pull import Delivery, keep_alive
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.intake import Intake
from gpuworker.worker.patrol import Patrols
from gpuworker.worker.run import Run
from gpuworker.worker.storage import StorageGate
from gpuworker.worker.stream import LeaseRevoked

log = logger(__name__)

#: Limit of the time that handing back itself may take, after drain_s.
_HAND_BACK_S: Final = 10.0
#: Pause between two tries to claim a job while REPLIES has no room for a lease.
_CLAIM_AGAIN_S: Final = 1.0


class Deliveries:
    """Handles each delivery in a task of its own and knows the runs that they became."""

    def __init__(
        self,
        bus: Bus,
        host: EngineHost,
        claims: Claims,
        cards: Mapping[str, ModelCard],
        intake: Intake,
        storage: StorageGate,
        patrols: Patrols,
        on_change: Callable[[], None],
    ) -> None:
        """`cards`: by model. `on_change` is called when a run begins or ends."""
        self._bus = bus
        self._host = host
        self._claims = claims
        self._cards = cards
        self._audio_limit = AudioLimit.of(bus.settings)
        self._intake = intake
        self._storage = storage
        self._patrols = patrols
        self._on_change = on_change
        #: Jobs that run here. After a redelivery two tasks may handle one job; the later one replaces its entry.
        self.runs: dict[JobKey, Run] = {}
        #: Jobs started here since the process began, by consumer.
        self.num_started: Counter[str] = Counter()

    async def handle(self, delivery: Delivery, number: int) -> None:
        """Bring one delivery to one outcome. Raises nothing that a message can cause, whatever it holds.

        `number` is the intake's. Cancelling leaves the lease as it is: the message is delivered again after ack_wait.
        """
        try:
            job = self._open(delivery)
        except Exception as error:  # noqa: BLE001  # with the line below: one message must not end a process
            await self._give_up(delivery, error, usable_id(delivery.payload, delivery.seq))
            return
        with bound(job=job.id, tenant=job.tenant):
            try:
                if not await self._adopt(delivery, job):
                    await self._run(delivery, job, number)
            except Unreachable as error:
                log.warning("job.claim_failed", error=str(error))  # the message is delivered again after ack_wait
            except BusError as error:
                log.error("job.claim_failed", error=str(error))
            except Exception as error:  # noqa: BLE001
                await self._give_up(delivery, error, job.id)

    async def check_lease(self, key: JobKey) -> None:
        """A message said that this job's lease was revoked: interrupt the run if the lease shows it (rule 13)."""
        run = self.runs.get(key)
        if run is None:
            return
        try:
            is_held, lease = await run.lease.read()
        except Unreachable as error:
            log.warning("job.lease_read_failed", job=key.job, error=str(error))
            return
        if not is_held:
            run.interrupt(LeaseRevoked(lease))

    def _open(self, delivery: Delivery) -> wire.Job:
        """The delivered job. Raises Malformed, or Invalid for a job that its model would refuse."""
        job = self._claims.open(delivery)
        card = self._cards[job.model]
        if job.inputs:
            check_known(job.inputs, card.inputs, card.name)
        if job.script:
            check_turns(job, card.max_input_chars, takes_scripts=card.scripts)
        else:
            check_length(job.input, card.max_input_chars, card.min_input_letters)
        if not job.max_bytes:  # published without a gateway
            self._audio_limit.check(job, card.bound, 2 * card.rate_hz * card.channels)
        return job

    async def _give_up(self, delivery: Delivery, error: Exception, job_id: str) -> None:
        """Dead-letter the message and end its job with `error`. If that fails it is delivered again after ack_wait."""
        refusal = Refusal.of(error)
        if refusal.traceback:
            log.error("job.crashed", error=refusal.reason, traceback=refusal.traceback)
        try:
            await self._claims.dead_letters.give_up_message(delivery, refusal, job_id)
        except Exception as failed:  # noqa: BLE001  # the last catch around a job
            log.error("job.claim_failed", error=f"{type(failed).__name__}: {failed}")

    async def _adopt(self, delivery: Delivery, job: wire.Job) -> bool:
        """Whether this is a redelivery of a job that runs here under its lease: then acknowledge that one (rule 10).

        A run that has lost its lease is interrupted and awaited first.
        """
        key = self._bus.subjects.job_key(job.tenant, job.id)
        run = self.runs.get(key)
        if run is None:
            return False
        is_held, lease = await run.lease.read()
        if is_held and not run.finished.is_set():
            if run.claim.birth.queue_seq == delivery.seq:
                run.lease.redelivered(delivery.ack_subject)
                log.info("job.adopted", delivered=delivery.num_delivered)
                return True
            return False
        run.interrupt(LeaseRevoked(lease))
        await run.finished.wait()
        return False

    async def _run(self, delivery: Delivery, job: wire.Job, number: int) -> None:
        claim = await self._claim(delivery, job)
        if claim is None:
            return
        card = self._cards[job.model]
        patrol = self._patrols.begin(card, claim) if card.quality is not None else None
        run = Run(self._bus, self._host, self._claims, self._storage, card, claim, patrol)
        self.runs[claim.key] = run
        self.num_started[delivery.consumer] += 1
        self._intake.running(number, lambda: run.times.first_block_at is not None)
        self._on_change()
        _log_start(run)
        try:
            outcome = await run.go()
        finally:
            if patrol is not None:
                patrol.close()
            if self.runs.get(claim.key) is run:
                del self.runs[claim.key]
            self._on_change()
        self._intake.ended(number, succeeded=outcome == "done", engine_failed=run.engine_failed)
        _log_end(run, outcome)

    async def _claim(self, delivery: Delivery, job: wire.Job) -> Claim | None:
        """As `Claims.claim`. While REPLIES has no room for a lease the delivery is kept, until this worker drains.

        Without a lease it would be delivered again and again, and soon too often: the job would be given up.
        """
        while True:
            try:
                return await self._claims.claim(delivery, job)
            except Full as error:
                if self._intake.is_closed:
                    raise
                log.warning("job.claim_failed", error=str(error))
            keep_alive(self._bus.connection, delivery.ack_subject)
            await asyncio.sleep(_CLAIM_AGAIN_S)


def _log_start(run: Run) -> None:
    claim = run.claim
    log.info(
        "job.started",
        model=claim.job.model,
        lane=claim.job.lane,
        attempt=claim.lease.attempt,
        frame=claim.position.frame,
        waited_s=run.times.waited_s,
    )


def _log_end(run: Run, outcome: str) -> None:
    if (stopped := run.stopped) is not None:
        log.info("job.stopped", why=stopped[0], after_s=stopped[1])
    facts = run.facts
    log.info(
        "job.finished",
        outcome=outcome,
        attempt=run.claim.lease.attempt,
        model=run.claim.job.model,
        blocks=facts.blocks,
        frames=facts.frames,
        audio_s=facts.audio_s,
        took_s=facts.took_s,
        first_block_s=facts.first_block_s,
        real_time_factor=round(facts.took_s / facts.audio_s, 4) if outcome == "done" and facts.audio_s else None,
    )


class Slots:
    """Holds running work by task, not by job: after a redelivery two tasks may handle the same job."""

    def __init__(
        self,
        intake: Intake,
        host: EngineHost,
        handle: Callable[[Delivery, int], Coroutine[Any, Any, None]],
        on_capacity: Callable[[], None],
    ) -> None:
        """`handle(delivery, number)` brings a delivery to its outcome. `on_capacity` is called when a slot is free."""
        self._intake = intake
        self._host = host
        self._handle = handle
        self._on_capacity = on_capacity
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, group: asyncio.TaskGroup) -> None:
        """Run tasks in `group` from now on. An exception that leaves `handle` means that the process is unsound."""
        self._group = group

    @property
    def num_used(self) -> int:
        """Deliveries in progress."""
        return len(self._tasks)

    def num_free(self) -> int:
        """Jobs that may be pulled now."""
        return self._intake.free(len(self._tasks)) if self._host.is_up else 0

    def num_vacant(self) -> int:
        """Jobs that could be pulled now if there were no other worker; reported in heartbeats."""
        return self._intake.vacant(len(self._tasks)) if self._host.is_up else 0

    def deliver(self, delivery: Delivery) -> None:
        """Handle `delivery` in a task of its own."""
        number = self._intake.begin()
        task = self.spawn(self._handle(delivery, number), f"job {delivery.seq}")
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._free(task, number))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside the deliveries, without a slot."""
        assert self._group is not None
        return self._group.create_task(work, name=name)

    async def drain(self, drain_s: float, hand_back: Callable[[], None]) -> None:
        """Wait `drain_s` for the tasks, call `hand_back` to interrupt the rest, and cancel any that ignores it."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=drain_s)
        hand_back()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=_HAND_BACK_S)
            for task in late:
                log.error("worker.drain_timeout", task=task.get_name(), waited_s=_HAND_BACK_S)
                task.cancel()

    def _free(self, task: asyncio.Task[None], number: int) -> None:
        self._tasks.discard(task)
        self._intake.over(number)
        self._on_capacity()
