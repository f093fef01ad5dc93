"""Supervision of the running jobs: leases kept alive, stalls, deadlines and missing listeners found."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from bus.errors import Unreachable
from bus.jobs.client import Bus
from bus.jobs.interest import NO_LISTENERS, has_listeners
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.host_process import STOOD_STILL_S
from gpuworker.worker.run import Run
from gpuworker.worker.storage import StorageGate
from gpuworker.worker.stream import DeadlinePassed, EngineLost, NoListeners

log = logger(__name__)

_CHECK_S: Final = 0.25
_LISTENERS_EVERY_S: Final = 10.0
#: A job whose listeners did not answer twice waits at least so long for them to return: their gateway may have died.
_RETURN_S: Final = 30.0


class Supervisor:
    """Interrupts jobs that stall or are past their deadline, and keeps the leases of the others alive."""

    def __init__(
        self, bus: Bus, runs: Mapping[JobKey, Run], host: EngineHost, storage: StorageGate, stall_s: float
    ) -> None:
        """`runs` changes as jobs begin and end. `stall_s`: the longest silence of an engine."""
        self._bus = bus
        self._runs = runs
        self._host = host
        self._storage = storage
        self._stall_s = stall_s

    async def run(self) -> None:
        """Until cancelled; cancelling leaves the runs as they are."""
        keep_alive_s = self._bus.settings.ack_wait_s / 3
        pause_s = min(_CHECK_S, keep_alive_s / 2)
        kept_alive_at = time.monotonic()
        while True:
            slept_at = time.monotonic()
            await asyncio.sleep(pause_s)
            now = time.monotonic()
            if now - slept_at > pause_s + STOOD_STILL_S or self._storage.is_closed:
                # This process stood still, not the engines: their messages have not even been read. Or blocks wait for
                # room in the store: an engine may wait for the credit of any job in its batch.
                for run in self._runs.values():
                    run.restart_silence()
            self._interrupt_overdue(self._bus.clock.now())
            if now - kept_alive_at >= keep_alive_s:
                kept_alive_at = now
                self._keep_leases_alive()

    def _interrupt_overdue(self, now_s: float) -> None:
        for run in list(self._runs.values()):
            due_s, why = run.deadline
            if now_s >= due_s:
                run.interrupt(DeadlinePassed(why))
            elif run.silent_s > self._stall_s and not self._is_host_at_fault:
                log.error("job.stalled", job=run.claim.job.id, tenant=run.claim.job.tenant, stall_s=self._stall_s)
                run.interrupt(EngineLost(f"no progress for {self._stall_s:g} s"))

    @property
    def _is_host_at_fault(self) -> bool:
        """Whether the host explains a silence: it is down, or so long in one step that it may be found hanging soon.

        If the job were interrupted too, one hang would count twice and could open the breaker.
        """
        return not self._host.is_up or self._host.step_s > self._stall_s / 2

    def _keep_leases_alive(self) -> None:
        """Restart the ack_wait countdown of every job whose engine makes progress; a stalled one loses its lease."""
        for run in self._runs.values():
            if run.silent_s <= self._stall_s:
                run.lease.keep_alive()


class ListenerCheck:
    """Interrupts jobs that no client listens to any more (rule 16, the worker's half).

    A gateway's death does not end its jobs: their clients get time to come back through another gateway.
    """

    def __init__(self, bus: Bus, runs: Mapping[JobKey, Run], every_s: float = _LISTENERS_EVERY_S) -> None:
        """`runs` changes as jobs begin and end."""
        self._bus = bus
        self._runs = runs
        self._every_s = every_s
        self._checking: set[Run] = set()
        #: Runs whose listeners did not answer the last time.
        self._unanswered: set[Run] = set()

    async def run(self) -> None:
        """Until cancelled; cancelling leaves the runs as they are."""
        async with asyncio.TaskGroup() as checks:
            while True:
                await asyncio.sleep(self._every_s)
                runs = set(self._runs.values())
                self._unanswered &= runs
                for run in runs - self._checking:
                    if run.claim.job.run_on is False:
                        self._checking.add(run)
                        checks.create_task(self._check(run), name=f"listeners of {run.claim.job.id}")

    async def _check(self, run: Run) -> None:
        try:
            if await self._has_listener(run):
                self._unanswered.discard(run)
                return
            if run not in self._unanswered:
                self._unanswered.add(run)
                return
            log.warning("job.no_listeners", job=run.claim.job.id, tenant=run.claim.job.tenant)
            await asyncio.sleep(max(run.claim.job.linger_s, _RETURN_S))
            if run.finished.is_set():
                return
            if await self._has_listener(run):
                self._unanswered.discard(run)
            else:
                run.interrupt(NoListeners(NO_LISTENERS))
        finally:
            self._checking.discard(run)

    async def _has_listener(self, run: Run) -> bool:
        """True if the bus cannot be reached: a missing answer then says nothing."""
        try:
            return await has_listeners(self._bus.connection, run.claim.key)
        except Unreachable as error:
            log.debug("job.listeners_unknown", job=run.claim.job.id, error=str(error))
            return True
