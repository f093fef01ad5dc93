"""Slots, intake and drain: which jobs this worker holds, and how it lets go of them."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Mapping

from bus import wire
from bus.errors import BusError, Malformed, Unreachable
from bus.fleet.messages import Draining, Heartbeat, Held, ModelCard
from bus.fleet.presence import Presence, cards_digest
from bus.jobs.claim import Claims, Identity
from bus.jobs.client import Bus
from bus.jobs.delivery import Delivery
from bus.jobs.lanes import Lane
from bus.jobs.puller import Puller, PullSettings
from bus.subjects import LANES, JobKey
from bus.telemetry.logging import bound, logger
from gpuworker.settings import WorkerSettings
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.intake import Intake
from gpuworker.worker.memory import resident_bytes
from gpuworker.worker.peers import Peers
from gpuworker.worker.run import Run
from gpuworker.worker.stream import HandBack, Taken

log = logger(__name__)

#: After drain_s, how long the handing back itself may take.
_HAND_BACK_S = 10.0
_BACKUP_PULLS = PullSettings(priority=1, poll_s=0.05)


class Worker:
    def __init__(
        self,
        bus: Bus,
        settings: WorkerSettings,
        me: Identity,
        cards: Mapping[str, ModelCard],
        stop: asyncio.Event,
    ) -> None:
        """`stop` ends the work; the worker sets it itself when it is asked over the bus to drain."""
        self._bus, self._settings, self._me, self._cards, self._stop = bus, settings, me, cards, stop
        self.presence = Presence(bus, me.worker, me.boot, self.beat, self._stopped, self._drain_asked)
        self._peers = Peers(bus, settings, self._room)
        self._intake = Intake(settings, self._peers, self.presence.changed, self._room)
        self.host = EngineHost(list(cards), settings, self._host_changed, self._host_died)
        self._claims = Claims(bus.logs, bus.clock, me, settings.max_attempts, settings.max_host_deaths)
        self.presence.cards = list(cards.values())
        self._digest = cards_digest(self.presence.cards)
        #: By task: after a redelivery two tasks hold the same job.
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: dict[JobKey, Run] = {}
        self._started: Counter[str] = Counter()
        self._puller: Puller | None = None
        self._models_changed = asyncio.Event()
        self._jobs: asyncio.TaskGroup | None = None

    @property
    def runs(self) -> Mapping[JobKey, Run]:
        return self._runs

    @property
    def models(self) -> list[str]:
        """What it was asked to serve and can describe."""
        return list(self._cards)

    # Life

    async def work(self) -> None:
        """Take jobs until told to stop, then drain: running jobs get `drain_s`, the rest is handed back mid-stream.

        Raises what makes the process unsound; a job's failure never leaves.
        """
        async with asyncio.TaskGroup() as jobs:
            self._jobs = jobs
            deaf = self._peers.listen()
            pulling = jobs.create_task(self._pull(), name="pull")
            await self._stop.wait()
            self._intake.closed = True
            self.presence.changed()
            log.info("worker.draining", jobs=len(self._tasks), drain_s=self._settings.drain_s)
            pulling.cancel()
            deaf()
            await self._drain()

    async def _drain(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._settings.drain_s)
        for run in list(self._runs.values()):
            run.interrupt(HandBack("its worker is draining"))
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=_HAND_BACK_S)
            for task in late:
                log.error("worker.drain_timeout", task=task.get_name(), waited_s=_HAND_BACK_S)
                task.cancel()

    async def _pull(self) -> None:
        """Pull for the models that are loaded; begin anew whenever those change."""
        while True:
            self._models_changed.clear()
            models = sorted(self.host.loaded)
            if not models:
                await self._models_changed.wait()
                continue
            versions = [self._cards[model].version for model in models]
            try:
                declared = [
                    await self._bus.topology.declare_consumers(*pair) for pair in zip(models, versions, strict=True)
                ]
            except Unreachable as error:  # nobody leads: what runs goes on, and the queues are asked for again
                log.warning("pull.declare_failed", error=str(error))
                continue
            lanes = [Lane(lane, tuple(names[rank] for names in declared)) for rank, lane in enumerate(LANES)]
            settings = _BACKUP_PULLS if self._peers.stands_back else PullSettings()
            self._puller = Puller(
                self._bus.connection, self._bus.subjects.jobs_stream, lanes, self._free, self._deliver, settings
            )
            await self._pull_until_changed(self._puller)

    async def _pull_until_changed(self, puller: Puller) -> None:
        pulling = asyncio.ensure_future(puller.run())
        changed = asyncio.ensure_future(self._models_changed.wait())
        try:
            done, _ = await asyncio.wait({pulling, changed}, return_when=asyncio.FIRST_COMPLETED)
            if pulling in done:
                pulling.result()
        finally:
            changed.cancel()
            pulling.cancel()
            await asyncio.wait({pulling})

    def _host_changed(self) -> None:
        self._peers.serves(self._offered, is_loading=self.host.is_loading)
        self._models_changed.set()
        self.presence.changed()

    def _host_died(self) -> None:
        self._intake.breaker.fault()

    def _room(self) -> None:
        if self._puller is not None:
            self._puller.wake()

    def _drain_asked(self) -> Draining:
        log.info("worker.drain_requested")
        self._stop.set()
        return Draining(held=len(self._runs), drain_s=self._settings.drain_s)

    # Jobs

    def _free(self) -> int:
        return self._intake.free(len(self._tasks)) if self.host.is_up else 0

    def _deliver(self, delivery: Delivery) -> None:
        assert self._jobs is not None
        number = self._intake.begin()
        task = self._jobs.create_task(self._handle(delivery, number), name=f"job {delivery.seq}")
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._forget(task, number))

    def _forget(self, task: asyncio.Task[None], number: int) -> None:
        self._tasks.discard(task)
        self._intake.over(number)
        self._room()

    async def _handle(self, delivery: Delivery, number: int) -> None:
        """One delivery to one outcome. A job's failure is data and stays here."""
        try:
            job = self._claims.open(delivery)
        except Malformed as error:
            await self._settle(self._claims.bury(delivery, str(error)))
            return
        with bound(job=job.id, tenant=job.tenant):
            try:
                if not await self._adopted(delivery, job):
                    await self._run(delivery, job, number)
            except Unreachable as error:
                log.warning("job.claim_failed", error=str(error))  # it comes again after ack_wait
            except BusError as error:
                log.error("job.claim_failed", error=str(error))

    async def _settle(self, burial: object) -> None:
        try:
            await burial  # type: ignore[misc]
        except BusError as error:
            log.error("job.claim_failed", error=str(error))

    async def _run(self, delivery: Delivery, job: wire.Job, number: int) -> None:
        claim = await self._claims.claim(delivery, job)
        if claim is None:
            return
        run = self._runs[claim.key] = Run(self._bus, self.host, self._claims, self._cards[job.model], claim)
        self._started[delivery.consumer] += 1
        self._intake.runs(number, lambda: run.has_sound)
        self.presence.changed()
        attempt, frame = claim.lease.attempt, claim.position.frame
        log.info("job.started", model=job.model, lane=job.lane, attempt=attempt, frame=frame, waited_s=run.waited_s)
        try:
            outcome = await run.go()
        finally:
            if self._runs.get(claim.key) is run:
                del self._runs[claim.key]
            self.presence.changed()
        self._intake.ended(number, succeeded=outcome == "done", engine_failed=run.engine_failed)
        if (stopped := run.stopped) is not None:
            log.info("job.stopped", why=stopped[0], after_s=stopped[1])
        made = run.made
        log.info(
            "job.finished",
            outcome=outcome,
            attempt=attempt,
            model=job.model,
            blocks=made.blocks,
            frames=made.frames,
            audio_s=made.audio_s,
            took_s=made.took_s,
            first_block_s=made.first_block_s,
            real_time_factor=round(made.took_s / made.audio_s, 4) if outcome == "done" and made.audio_s else None,
        )

    async def _adopted(self, delivery: Delivery, job: wire.Job) -> bool:
        """Rule 10: a delivery of a job that runs here is adopted, if the lease is still ours; else the old run ends."""
        name = self._bus.subjects.job_key(job.tenant, job.id)
        run = self._runs.get(name)
        if run is None:
            return False
        lease = await self._bus.logs.lease(name)
        if lease is not None and lease[0] == run.lease_seq and not run.finished.is_set():
            if run.claim.birth.queue_seq == delivery.seq:
                run.ack_subject = delivery.ack_subject
                log.info("job.adopted", delivered=delivery.num_delivered)
                return True
            return False
        run.interrupt(Taken(lease[1] if lease is not None else None))
        await run.finished.wait()
        return False

    def _stopped(self, word: wire.Stop) -> None:
        """Word that a lease was taken: obeyed after reading the lease (rule 13)."""
        run = self._runs.get(self._bus.subjects.job_key(word.tenant, word.job))
        if run is not None and self._jobs is not None:
            self._jobs.create_task(self._check_lease(run), name=f"check {word.job}")

    async def _check_lease(self, run: Run) -> None:
        try:
            lease = await self._bus.logs.lease(run.claim.key)
        except Unreachable as error:
            log.warning("job.lease_read_failed", job=run.claim.key.job, error=str(error))
            return
        if lease is None or lease[0] != run.lease_seq:
            run.interrupt(Taken(lease[1] if lease is not None else None))

    # Presence

    @property
    def _offered(self) -> list[str]:
        return [model for model in self._cards if model not in self.host.unavailable]

    def beat(self) -> Heartbeat:
        """The heartbeat of now."""
        state = "draining" if self._intake.closed else "ready" if self.host.loaded else "starting"
        return Heartbeat(
            id=self._me.worker,
            boot=self._me.boot,
            pid=os.getpid(),
            host=socket.gethostname(),
            state=state,
            models=self._offered,
            cards=self._digest,
            slots=self._settings.slots,
            held=[Held(name.tenant, name.job) for name in self._runs],
            started=dict(self._started),
            rss_bytes=resident_bytes(self.host.pid) or 0 if self.host.is_up else 0,
            device=self._settings.device,
            device_bytes=self.host.device_bytes,
            breaker=self._intake.breaker.state,
            weight=self._settings.weight,
            backup=self._settings.backup,
            loading=self.host.is_loading,
            free=self._intake.vacant(len(self._tasks)) if self.host.is_up else 0,
        )
