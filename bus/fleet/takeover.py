"""Takes a dead worker's jobs away from it, so that they go on before ack_wait. Protocol rule 19."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

import msgspec

from bus import wire
from bus.errors import BusError, Fenced
from bus.fleet.messages import Heartbeat
from bus.fleet.takeover_timing import Death, TakeoverTimers
from bus.jobs.client import Bus
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.pull import ack, give_back

log = logger(__name__)

#: Leases read, at a worker's death, of jobs that it may hold although no heartbeat listed them.
_MAX_UNLISTED: Final = 200


class Takeovers:
    """The takeovers of one gateway. Others take jobs of the same workers: per job, the lease elects one of them."""

    def __init__(self, bus: Bus, tasks: asyncio.TaskGroup, listened: Callable[[str], Iterable[JobKey]]) -> None:
        """`listened(worker)`: jobs that this process listens to and that `worker` may hold."""
        self._bus = bus
        self._tasks = tasks
        self._listened = listened
        self._timers = TakeoverTimers(bus.connection)

    @property
    def num_timed(self) -> int:
        """Takeovers whose next entry has not come yet."""
        return len(self._timers)

    def start(self, dead: Heartbeat, pong_at: float | None) -> None:
        """Take away every job that a worker holds or may hold whose last heartbeat is `dead`. Never waits.

        `pong_at`: monotonic seconds of its last pong; None if it never answered.
        """
        death = Death.now(dead.id, pong_at)
        held = {self._bus.subjects.job_key(each.tenant, each.job) for each in dead.held}
        # No heartbeat lists a job that the worker took after its last one, but the gateway that it is for listens.
        unlisted = islice((key for key in self._listened(dead.id) if key not in held), _MAX_UNLISTED)
        for key in (*held, *unlisted):
            self._tasks.create_task(self._take_timed(dead, key, death), name=f"take away {key.job}")

    def close(self) -> None:
        """Stop timing. Takeovers that are under way go on."""
        self._timers.close()

    async def _take_timed(self, dead: Heartbeat, key: JobKey, death: Death) -> None:
        timer = self._timers.start(key, death)
        is_taken = await self._take(dead, key)
        if timer is not None and is_taken:
            timer.taken()
        elif timer is not None:
            timer.close()

    async def _take(self, dead: Heartbeat, key: JobKey) -> bool:
        """Set the lease from the dead worker's to `interrupted`; the gateway that wins NAKs that lease's delivery.

        A job that the worker had ended is not taken; its delivery is acknowledged in the worker's place.
        """
        try:
            found = await self._bus.logs.lease(key)
            if found is None or found.lease.state != wire.LeaseState.RUNNING:
                return False
            if (found.lease.worker, found.lease.boot) != (dead.id, dead.boot):
                return False
            tail = await self._bus.logs.tail(key)
            if tail is not None and tail.is_end:  # the worker died between its end and its acknowledgement
                ack(self._bus.connection, found.lease.ack)
                return False
            interrupted = msgspec.structs.replace(
                found.lease, state=wire.LeaseState.INTERRUPTED, detail="its worker died"
            )
            await self._bus.logs.take(key, interrupted, found.seq)
        except Fenced:
            return False  # another gateway, or a worker, was faster
        except BusError as error:
            log.warning("takeover.failed", job=key.job, tenant=key.tenant, error=str(error))
            return False
        give_back(self._bus.connection, found.lease.ack)
        log.info("takeover.started", job=key.job, tenant=key.tenant, worker=dead.id)
        return True
