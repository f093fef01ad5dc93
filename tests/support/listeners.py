"""Listeners of jobs that come and leave as a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from bus.jobs.client import Bus
from bus.jobs.interest import Interest
from bus.jobs.status import status
from bus.jobs.submit import submit
from bus.subjects import JobKey
from tests.support.bus import key_of
from tests.support.jobs import tone_job


class Stay:
    """A listener that stays until `leave`."""

    def __init__(self, interest: Interest, key: JobKey, *, run_on: bool = False, linger_s: float = 0.0) -> None:
        self.here = asyncio.Event()
        self._leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._stay(interest, key, run_on, linger_s))
        self.saw_end = False

    async def _stay(self, interest: Interest, key: JobKey, run_on: bool, linger_s: float) -> None:
        async with interest.listen(key, run_on=run_on, linger_s=linger_s) as listener:
            self.here.set()
            await self._leave.wait()
            listener.saw_end = self.saw_end

    async def leave(self) -> None:
        self._leave.set()
        await self.task


@contextlib.asynccontextmanager
async def gateway(bus: Bus) -> AsyncIterator[Interest]:
    """A second process's listeners, or the first's. Leaving waits until every leaving is settled."""
    async with asyncio.TaskGroup() as tasks:
        yield Interest(bus.connection, bus.logs, tasks)


async def accept(bus: Bus, **fields: Any) -> JobKey:
    job = tone_job(**fields)
    await submit(bus, job)
    return key_of(bus, job)


async def listener(*args: Any, **kwargs: Any) -> Stay:
    made = Stay(*args, **kwargs)
    await made.here.wait()
    return made


async def state(bus: Bus, key: JobKey) -> str:
    return (await status(bus.logs, key)).state


def num_unsettled() -> int:
    """Leavings that are still being settled."""
    return sum(task.get_name().startswith("left ") for task in asyncio.all_tasks())
