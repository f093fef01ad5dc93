"""A request that moves from run to run of an identical job."""

import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from bus import wire
from bus.errors import Cancelled, EngineFailed, Expired, JobError, NotFound
from bus.jobs.interest import LEFT, NO_LISTENERS, Listener
from bus.subjects import JobKey, Subjects
from gateway.jobs.cache import ResultCache
from gateway.jobs.shared_run import SharedRun
from tests.support.jobs import tone_job

FEW = 100


class EmptyLogs:
    """A bus without any log."""

    subjects = Subjects("test")

    async def birth(self, key: JobKey) -> None:
        """No job was accepted under any id."""

    async def tail(self, key: JobKey) -> None:
        """No log has an entry."""


class Acceptance:
    """Stands for `Jobs`: accepts every job as a new one."""

    def __init__(self) -> None:
        logs: Any = EmptyLogs()
        self.bus = SimpleNamespace(subjects=logs.subjects)
        self.cache = ResultCache(logs)
        self.num_accepted = 0

    @contextlib.asynccontextmanager
    async def listen(self, key: JobKey, job: wire.Job) -> AsyncIterator[tuple[Listener, Any]]:
        yield Listener(), SimpleNamespace(read_back=lambda: None)

    async def accept(self, job: wire.Job, listener: Listener) -> Any:
        self.num_accepted += 1
        return SimpleNamespace(is_new=True)

    async def find(self, key: JobKey) -> None:
        raise NotFound(key.job)


@pytest.mark.parametrize("error", [Cancelled(LEFT), Cancelled(NO_LISTENERS)])
async def test_a_request_whose_listening_is_never_seen_does_not_start_runs_forever(error: JobError) -> None:
    jobs: Any = Acceptance()
    async with SharedRun(jobs, tone_job()) as run:
        await run.find(fresh=False)
        moved = [await run.move_on(error) for _ in range(FEW)]
    assert moved[0]
    assert not moved[-1]
    assert jobs.num_accepted == 1 + sum(moved)


async def test_a_run_that_failed_by_itself_is_the_answer() -> None:
    jobs: Any = Acceptance()
    async with SharedRun(jobs, tone_job()) as run:
        await run.find(fresh=False)
        for error in (EngineFailed("broke"), Cancelled("by its owner"), Expired("too late")):
            assert not await run.move_on(error)
    assert jobs.num_accepted == 1
