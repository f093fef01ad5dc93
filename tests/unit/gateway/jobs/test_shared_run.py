"""A request that goes from run to run of an equal job."""

from typing import Any

import pytest

from bus.errors import Cancelled, EngineFailed, Expired, JobError
from bus.jobs.interest import LEFT, NO_LISTENERS
from gateway.jobs.shared_run import SharedRun
from tests.support.jobs import tone_job

FEW = 100


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> SharedRun:
    """One that always finds another run."""

    async def attach(*_: Any) -> None:
        return None

    monkeypatch.setattr(SharedRun, "_attach", attach)
    gateway: Any = None
    return SharedRun(gateway, tone_job())


@pytest.mark.parametrize("error", [Cancelled(LEFT), Cancelled(NO_LISTENERS)])
async def test_who_listens_and_is_never_heard_has_no_end_of_runs_made(run: SharedRun, error: JobError) -> None:
    moved = [await run.move_on(error) for _ in range(FEW)]
    assert moved[0]
    assert not moved[-1]


async def test_a_run_that_failed_of_itself_is_the_answer(run: SharedRun) -> None:
    for error in (EngineFailed("broke"), Cancelled("by its owner"), Expired("too late")):
        assert not await run.move_on(error)
