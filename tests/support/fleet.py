"""A gateway's view of the fleet inside a test, and workers for it: as stub processes, and in this process."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from bus.fleet.fleet import Fleet
from bus.fleet.messages import Held
from bus.fleet.presence import Presence
from bus.jobs.client import Bus
from bus.subjects import JobKey
from tests.support.bus import client_of
from tests.support.stub_worker import CARD, beat
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PING_S = 0.05


@contextlib.asynccontextmanager
async def process(
    bus: Bus, worker: str, boot: str = "b1", num_jobs: int = 0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A stub worker; yields once it is ready."""
    settings = msgspec.json.encode(bus.settings).decode()
    arguments = ["-m", "tests.support.stub_worker", settings, worker, boot, str(num_jobs)]
    started = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert started.stdout is not None
    try:
        async with asyncio.timeout(30):
            while (await started.stdout.readline()).strip() != b"ready":
                assert started.returncode is None
        yield started
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGCONT)
            started.kill()
        await started.wait()
        await started.stdout.read()


def listens(bus: Bus) -> bool:
    return bus.subjects.all_heartbeats in {sub._subject for sub in client_of(bus.connection)._subs.values()}


@contextlib.asynccontextmanager
async def gateway(
    bus: Bus, listened: Callable[[str], list[JobKey]] = lambda worker: [], silent_s: float = 3.0
) -> AsyncIterator[Fleet]:
    async with asyncio.TaskGroup() as tasks:
        fleet = Fleet(bus, PING_S, tasks, listened, silent_s=silent_s)
        running = tasks.create_task(fleet.run())
        await eventually(lambda: listens(bus))
        try:
            yield fleet
        finally:
            running.cancel()


@contextlib.asynccontextmanager
async def present(
    bus: Bus, worker: str, boot: str, held: list[Held] | None = None, **times_s: float
) -> AsyncIterator[Presence]:
    """A worker in this process; `times_s` are options of `Presence`."""
    presence = Presence(bus, worker, boot, lambda: beat(worker, boot, held or []), lambda _: None, **times_s)
    presence.cards = [CARD]
    running = asyncio.ensure_future(presence.run())
    try:
        yield presence
    finally:
        running.cancel()
        await asyncio.wait({running})


def answers(fleet: Fleet, worker: str) -> bool:
    known = fleet.workers.get(worker)
    return known is not None and known.pong_at is not None


async def why(bus: Bus, name: JobKey) -> str:
    found = await bus.logs.lease(name)
    assert found is not None
    return found.lease.state
