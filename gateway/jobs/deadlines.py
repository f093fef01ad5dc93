"""Deadlines: a job expires when a process looks at it after its time (protocol rule 14).

This process looks by a timer for each job that it accepted, and at every request about a job. No process scans.
"""

import asyncio
from typing import Final

from bus import wire
from bus.errors import BusError, Unreachable
from bus.jobs.birth import next_deadline
from bus.jobs.client import Bus
from bus.jobs.status import Status, status
from bus.subjects import JobKey
from bus.telemetry.logging import logger

log = logger(__name__)

#: Deadlines further away have no timer here: the worker that pulls the job, and requests about it, look.
_MAX_AHEAD_S: Final = 3600.0
_MAX_TIMERS: Final = 20_000
#: Seconds until the next try while NATS does not answer.
_RETRY_S: Final = 2.0


class Deadlines:
    """Timers of the jobs that this process accepted."""

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
