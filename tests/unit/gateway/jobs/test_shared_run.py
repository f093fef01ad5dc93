"""A request that moves from run to run of an identical job."""

from typing import Any

import pytest

from bus.errors import Cancelled, EngineFailed, Expired, JobError
from bus.jobs.interest import LEFT, NO_LISTENERS
from gateway.jobs.shared_run import SharedRun
from tests.support.jobs import tone_job

FEW = 100


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> SharedRun:
    """A request that always finds another run."""

    async def attach(*_: Any, exists: bool) -> None:
        return None

    monkeypatch.setattr(SharedRun, "_attach", attach)
    jobs: Any = None
    return SharedRun(jobs, tone_job())


@pytest.mark.parametrize("error", [Cancelled(LEFT), Cancelled(NO_LISTENERS)])
async def test_a_request_whose_listening_is_never_seen_does_not_start_runs_forever(
    run: SharedRun, error: JobError
) -> None:
    moved = [await run.move_on(error) for _ in range(FEW)]
    assert moved[0]
    assert not moved[-1]


async def test_a_run_that_failed_by_itself_is_the_answer(run: SharedRun) -> None:
    for error in (EngineFailed("broke"), Cancelled("by its owner"), Expired("too late")):
        assert not await run.move_on(error)
