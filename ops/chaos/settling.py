"""After the load: wait until a stack is at rest, and find out whether it still holds something that it should not."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from ops.chaos import leaks
from ops.chaos.live_stack import LiveStack, print_status
from ops.errors import OpsError

#: For all jobs to end after the last client has disconnected.
_DRAIN_S: Final = 90.0
#: For all workers to be back after the last fault.
_WARM_S: Final = 120.0
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a stack to come to rest, in seconds."""

    #: Snapshots in a row that must have equal counts: a process that restarts or reconnects holds less for a moment.
    num_steady: int = 3
    #: Between two snapshots.
    every_s: float = 1.0
    #: A stack that is not steady after this long is taken as it is.
    steady_s: float = 30.0
    #: Resources that are held for this long after the drain are leaked. A gateway listens for 30 s to a job that it
    #: took away from a dead worker.
    leave_s: float = 60.0


PATIENCE: Final = Patience()


async def drained(live: LiveStack) -> None:
    """Wait until JOBS is empty and no worker holds a job, 90 s at most: the ledger finds the jobs that are left."""
    deadline = time.monotonic() + _DRAIN_S
    while time.monotonic() < deadline:
        info = await live.bus.js.info(live.bus.subjects.jobs_stream)
        if not info["state"]["messages"] and not live.monitor.held():
            return
        await asyncio.sleep(_POLL_S)
    print_status(f"jobs are left after {_DRAIN_S:g} s")


async def at_rest(live: LiveStack, settle_s: float, patience: Patience = PATIENCE) -> leaks.Snapshot:
    """A snapshot once every worker is back, `settle_s` seconds have passed, and the counts are steady."""
    deadline = time.monotonic() + _WARM_S
    while not all(live.monitor.is_warm(worker) for worker in live.stack.workers):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(_POLL_S)
    await asyncio.sleep(settle_s)
    return await steady(lambda: leaks.snapshot(live.stack), patience)


async def steady(take: Callable[[], Awaitable[leaks.Snapshot]], patience: Patience = PATIENCE) -> leaks.Snapshot:
    """The last of several snapshots in a row with equal counts; after `patience.steady_s` the last one of all.

    A snapshot that fails is taken again until then: on a busy machine a nats-server may answer late once. After that
    the failure is raised.
    """
    deadline, alike, last = time.monotonic() + patience.steady_s, 0, None
    while True:
        try:
            snapshot = await take()
        except (OpsError, aiohttp.ClientError, TimeoutError):
            if time.monotonic() > deadline:
                raise
        else:
            alike = alike + 1 if last is not None and snapshot.counts == last.counts else 1
            last = snapshot
            if alike == patience.num_steady or time.monotonic() > deadline:
                return snapshot
        await asyncio.sleep(patience.every_s)


async def leaks_since(
    live: LiveStack, before: leaks.Snapshot, settle_s: float, patience: Patience = PATIENCE
) -> list[str]:
    """One line for each resource that is held at rest, was not held `before`, and is not released in time."""
    deadline = time.monotonic() + max(patience.leave_s, settle_s)
    leaked = leaks.leaked(before, await at_rest(live, settle_s, patience))
    if leaked:
        print_status(f"held for longer than {settle_s:g} s: {'; '.join(leaked)}")
    while leaked and time.monotonic() < deadline:
        leaked = leaks.leaked(before, await at_rest(live, patience.every_s, patience))
    return leaked
