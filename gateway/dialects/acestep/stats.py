"""ACE-Step's figures about a tenant's jobs."""

import asyncio
from collections import Counter
from typing import Final, Literal

import msgspec
from msgspec import UNSET

from bus import wire
from bus.errors import BusError, Malformed, Unreachable
from bus.jobs import lookup
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.direct import Stored
from bus.turns import Turns
from bus.wire import State
from gateway.access.caller import Caller
from gateway.jobs.service import Jobs
from gateway.jobs.view import ShownJob, view

log = logger(__name__)

#: The tenant's newest jobs that are searched for those of one API, and how many of these are counted.
_MAX_SEARCHED: Final = 1000
_MAX_COUNTED: Final = 200
#: Jobs that are read at the same time.
_CONCURRENCY: Final = 32

_COUNTED_AS: Final[dict[State, Literal["queued", "running", "succeeded", "failed"]]] = {
    State.QUEUED: "queued",
    State.RUNNING: "running",
    State.INTERRUPTED: "running",
    State.DONE: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "failed",
    State.EXPIRED: "failed",
}


class Counts(msgspec.Struct, kw_only=True):
    """Numbers of jobs."""

    total: int
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The newest jobs in figures."""

    jobs: Counts
    queue_size: int
    #: Always null: the queue is limited in bytes, not in jobs.
    queue_maxsize: int | None
    avg_job_seconds: float


async def stats(jobs: Jobs, caller: Caller, api: str, reads: Turns) -> Stats:
    """Figures of the tenant's newest jobs that came by `api`, less those that cannot be read. Raises Unreachable.

    `reads`: those of lists that run at one time, of all tenants.
    """

    def key(stored: Stored) -> JobKey | None:
        """The job's key, if it came by `api`."""
        return lookup.job_of(jobs.bus.subjects, stored) if _came_by(api, stored) else None

    async def viewed(key: JobKey) -> ShownJob | None:
        """The job, once it is the caller's turn to read it."""
        async with reads.turn(caller.owner):
            return await _view(jobs, key)

    async with reads.turn(caller.owner):
        found_keys, _ = await lookup.births(jobs.bus, caller.tenant, _MAX_SEARCHED, None, key)
    keys = [each for each in found_keys if each is not None][:_MAX_COUNTED]
    shown: list[ShownJob] = []
    for start in range(0, len(keys), _CONCURRENCY):
        found = await asyncio.gather(*map(viewed, keys[start : start + _CONCURRENCY]))
        shown += (each for each in found if each is not None)
    by_state: Counter[str] = Counter(_COUNTED_AS[each.state] for each in shown)
    counts = Counts(total=len(shown), **by_state)
    durations_s = [each.timings.total_s for each in shown if each.timings is not UNSET]
    return Stats(
        jobs=counts,
        queue_size=counts.queued,
        queue_maxsize=None,
        avg_job_seconds=round(sum(durations_s) / len(durations_s), 3) if durations_s else 0.0,
    )


def _came_by(api: str, stored: Stored) -> bool:
    try:
        return wire.decode(wire.Birth, stored.message.data).job.client.api == api
    except Malformed:
        return False


async def _view(jobs: Jobs, key: JobKey) -> ShownJob | None:
    """The job; None if it cannot be shown, or is gone by now. Raises Unreachable."""
    try:
        return await view(jobs.bus, await jobs.find(key))
    except Unreachable:
        raise
    except BusError:
        return None
    except Exception:
        log.exception("job.view_failed", job=key.job)
        return None
