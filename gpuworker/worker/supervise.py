"""What a worker looks after while its jobs run: leases kept alive, stalls, deadlines, listeners."""

import asyncio
import time

from bus.errors import Unreachable
from bus.jobs.client import Bus
from bus.jobs.delivery import keep_alive
from bus.jobs.interest import UNHEARD, anybody_listens
from bus.telemetry.logging import logger
from gpuworker.worker.engine_host import STOOD_STILL_S
from gpuworker.worker.run import Run
from gpuworker.worker.stream import Due, Left, Lost
from gpuworker.worker.worker import Worker

log = logger(__name__)

_LOOK_S = 0.25
#: Unanswered questions that mean: the gateways died. Then the job waits for one to come back, this long at least.
_MISSES = 2
_RETURN_S = 30.0


class Supervisor:
    def __init__(self, bus: Bus, worker: Worker, stall_s: float, listen_every_s: float = 10.0) -> None:
        self._bus, self._worker = bus, worker
        self._stall_s, self._listen_every_s = stall_s, listen_every_s
        self._asking: set[Run] = set()

    async def run(self) -> None:
        """Until cancelled."""
        keep_s = self._bus.settings.ack_wait_s / 3
        kept_at = asked_at = time.monotonic()
        async with asyncio.TaskGroup() as questions:
            while True:
                slept_at, pause_s = time.monotonic(), min(_LOOK_S, keep_s / 2)
                await asyncio.sleep(pause_s)
                now = time.monotonic()
                if now - slept_at > pause_s + STOOD_STILL_S:
                    self._excuse(now)
                self._look(self._bus.clock.now())
                if now - kept_at >= keep_s:
                    kept_at = now
                    self._keep()
                if now - asked_at >= self._listen_every_s:
                    asked_at = now
                    for run in self._worker.runs.values():
                        if not run.runs_on and run not in self._asking:
                            self._asking.add(run)
                            questions.create_task(self._ask(run), name=f"listeners of {run.claim.job.id}")

    def _excuse(self, now: float) -> None:
        """We stood still, not the engines: what they did meanwhile has not even been read."""
        for run in self._worker.runs.values():
            if run.stream is not None:
                run.stream.progress_at = now

    def _look(self, now_s: float) -> None:
        """Deadlines and stalls."""
        for run in list(self._worker.runs.values()):
            due_s, why = run.deadline
            if now_s >= due_s:
                run.interrupt(Due(why))
            elif run.silent_s > self._stall_s and not self._host_is_why:
                log.error("job.stalled", job=run.claim.job.id, tenant=run.claim.job.tenant, stall_s=self._stall_s)
                run.interrupt(Lost(f"no progress for {self._stall_s:g} s"))

    @property
    def _host_is_why(self) -> bool:
        """Whether a silence is the host's affair: it is down, or in one step for long and about to be found hanging.

        Told as the job's too, one hang would count twice, and the breaker open for it.
        """
        host = self._worker.host
        return not host.is_up or host.step_s > self._stall_s / 2

    def _keep(self) -> None:
        """+WPI for every job whose engine lives; a stalled one loses its lease."""
        for run in self._worker.runs.values():
            if run.silent_s <= self._stall_s:
                keep_alive(self._bus.connection, run.ack_subject)

    async def _ask(self, run: Run) -> None:
        """Rule 16, the worker's half. A gateway's death is not leaving: listeners get time to come back."""
        try:
            if await self._heard(run):
                run.misses = 0
                return
            run.misses += 1
            if run.misses < _MISSES:
                return
            log.warning("job.no_listeners", job=run.claim.job.id, tenant=run.claim.job.tenant)
            await asyncio.sleep(max(run.claim.job.linger_s, _RETURN_S))
            if run.finished.is_set():
                return
            if await self._heard(run):
                run.misses = 0
            else:
                run.interrupt(Left(UNHEARD))
        finally:
            self._asking.discard(run)

    async def _heard(self, run: Run) -> bool:
        try:
            return await anybody_listens(self._bus.connection, run.claim.key)
        except Unreachable as error:
            log.debug("job.listeners_unknown", job=run.claim.job.id, error=str(error))
            return True
