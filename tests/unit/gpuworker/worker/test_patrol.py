"""The patrol's time, and the ways in which the measuring of a job ends."""

import asyncio
import threading
import time
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bus import wire
from bus.fleet.messages import ModelCard
from bus.quality import SPEECH, Limits
from gpuworker.quality.meter import Subject
from gpuworker.worker.patrol import Measuring, Patrol, Patrols
from gpuworker.worker.patrol_budget import Budget
from tests.support.sounds import babble, s16le, with_dropouts

RATE_HZ = 8000
AUDIO = s16le(babble(3.0, RATE_HZ)) + bytes(RATE_HZ // 5)
Events = list[MutableMapping[str, Any]]


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


@pytest.fixture
def events() -> Iterator[Events]:
    with capture_logs() as events:
        yield events


def patrol(thread: ThreadPoolExecutor, *, rate_hz: int = RATE_HZ, share: float = 1.0, wait_s: float = 30.0) -> Patrol:
    subject = Subject(rate_hz=rate_hz, channels=1, limits=SPEECH)
    measuring = Measuring(subject, Budget(0.0, share), detects_speech=False)
    return Patrol("speech", 2 * RATE_HZ, measuring, thread, wait_s)


def logged(events: Events, event: str, field: str) -> list[object]:
    """The values of a field of all events of a name."""
    return [each[field] for each in events if each["event"] == event]


def outcomes(events: Events) -> list[object]:
    return logged(events, "quality.measured", "outcome")


def test_a_budget_grows_by_its_share_of_the_time_up_to_its_limit() -> None:
    budget = Budget(100.0, 0.02, 60.0)
    assert budget.left_s(100.0) == 0.0
    assert budget.left_s(110.0) == pytest.approx(0.2)
    budget.spend(0.5)
    assert budget.left_s(110.0) == pytest.approx(-0.3)
    assert budget.left_s(125.0) == pytest.approx(0.0)
    assert not budget.is_rich(125.0)
    assert budget.left_s(1e6) == pytest.approx(1.2)
    assert budget.is_rich(1e6)
    assert budget.spent_s == 0.5


def test_a_budget_gives_jobs_time_one_by_one() -> None:
    budget = Budget(0.0, 0.02, 60.0)
    assert not budget.reserve(0.1, 4.0)
    assert budget.reserve(0.1, 6.0)
    assert not budget.reserve(0.1, 6.0)
    budget.spend(0.05)
    budget.release(0.05)
    assert not budget.reserve(0.1, 7.0)  # 0.09 s are left, of which 0.05 s are reserved
    budget.release(0.05)
    assert not budget.reserve(0.1, 7.0)
    assert budget.reserve(0.1, 8.0)
    budget.release(0.1)
    assert not budget.reserve(100.0, 50.0)
    assert budget.reserve(0.7, 1e6)
    assert not budget.reserve(0.7, 1e6)
    budget.release(0.7)
    assert budget.reserve(100.0, 1e6), "all that can be saved is enough for any job"


async def test_a_job_that_ends_gives_back_what_it_reserved(thread: ThreadPoolExecutor) -> None:
    budget = Budget(0.0, 1.0)
    subject = Subject(rate_hz=RATE_HZ, channels=1, limits=SPEECH, bound_s=25_000.0)
    for has_end in (True, False, True):
        job = Patrol("speech", 2 * RATE_HZ, Measuring(subject, budget, detects_speech=False), thread, 30.0)
        job.add(AUDIO)
        await asyncio.get_running_loop().run_in_executor(thread, lambda: None)
        if has_end:
            assert await job.finish() is not None
        job.close()


async def test_a_job_that_found_no_time_at_its_beginning_is_not_measured_from_its_middle(
    thread: ThreadPoolExecutor, events: Events
) -> None:
    budget = Budget(0.0, 1.0)
    assert budget.reserve(60.0, time.monotonic())
    subject = Subject(rate_hz=RATE_HZ, channels=1, limits=SPEECH)
    job = Patrol("speech", 2 * RATE_HZ, Measuring(subject, budget, detects_speech=False), thread, 30.0)
    job.add(AUDIO)
    await asyncio.get_running_loop().run_in_executor(thread, lambda: None)
    budget.release(60.0)
    job.add(AUDIO)
    assert await job.finish() is None
    assert outcomes(events) == ["busy"]


async def test_a_result_comes_before_done_and_is_logged_once(thread: ThreadPoolExecutor, events: Events) -> None:
    job = patrol(thread)
    for begin in range(0, len(AUDIO), 3000):
        job.add(AUDIO[begin : begin + 3000])
    quality = await job.finish()
    assert quality is not None
    assert quality.flags == []
    assert quality.loudness_lufs is not None
    assert await job.finish() == quality  # an end that the store had no room for is appended again
    assert outcomes(events) == ["measured"]
    assert logged(events, "quality.flagged", "flag") == []


async def test_each_flag_is_an_event(thread: ThreadPoolExecutor, events: Events) -> None:
    job = patrol(thread)
    job.add(s16le(with_dropouts(babble(3.0, RATE_HZ) + 0.05, RATE_HZ, 0.05)))
    quality = await job.finish()
    assert quality is not None
    assert {"dropout", "offset"} <= set(quality.flags)
    assert logged(events, "quality.flagged", "flag") == quality.flags
    assert set(logged(events, "quality.flagged", "model")) == {"speech"}


async def test_without_time_left_a_job_is_not_measured(thread: ThreadPoolExecutor, events: Events) -> None:
    job = patrol(thread, share=0.0)
    job.add(AUDIO)
    assert await job.finish() is None
    assert outcomes(events) == ["busy"]


async def test_a_job_that_outruns_the_thread_is_not_measured(thread: ThreadPoolExecutor, events: Events) -> None:
    gate = threading.Event()
    thread.submit(gate.wait, 30)
    job = patrol(thread)
    for _ in range(30):
        job.add(AUDIO)
    gate.set()
    assert await job.finish() is None
    assert outcomes(events) == ["busy"]


async def test_a_result_that_is_late_is_logged_and_holds_nothing_up(thread: ThreadPoolExecutor, events: Events) -> None:
    gate = threading.Event()
    thread.submit(gate.wait, 30)
    job = patrol(thread, wait_s=0.01)
    job.add(AUDIO)
    assert await job.finish() is None
    assert outcomes(events) == []
    job.close()  # the run has ended; what was complete is measured all the same
    gate.set()
    assert await asyncio.wait_for(wait_until_logged(events), 30) == ["late"]


async def wait_until_logged(events: Events) -> list[object]:
    while not outcomes(events):
        await asyncio.sleep(0.005)
    return outcomes(events)


async def test_a_fault_of_ours_is_logged_and_costs_the_result_alone(thread: ThreadPoolExecutor, events: Events) -> None:
    job = patrol(thread, rate_hz=0)
    job.add(AUDIO)
    assert await job.finish() is None
    assert outcomes(events) == ["failed"]
    assert "ZeroDivisionError" in logged(events, "quality.failed", "error")[0]


async def test_a_run_that_is_not_done_leaves_nothing_behind(thread: ThreadPoolExecutor, events: Events) -> None:
    job = patrol(thread)
    job.add(AUDIO)
    job.close()
    job.add(AUDIO)
    await asyncio.get_running_loop().run_in_executor(thread, lambda: None)
    assert outcomes(events) == []


async def test_an_attempt_that_continues_a_log_is_measured_from_its_first_frame(events: Events) -> None:
    card = ModelCard(
        name="m",
        version="v1",
        kind="music",
        rate_hz=RATE_HZ,
        channels=1,
        resume="replay",
        determinism="bitwise",
        param_schema={},
        max_input_chars=9,
        quality=Limits(min_bound_share=0.9),
    )
    job = wire.Job(input="x", model="m", max_bytes=2 * RATE_HZ * 10)
    claim = SimpleNamespace(job=job, position=SimpleNamespace(frame=7 * RATE_HZ))
    patrols = Patrols(Budget(0.0, 1.0))
    patrol = patrols.begin(card, claim)
    assert patrol is not None
    patrol.add(AUDIO)
    quality = await patrol.finish()
    patrols.close()
    if quality is None:  # a machine that was busy for 0.25 s
        assert await asyncio.wait_for(wait_until_logged(events), 30) == ["late"]
        return
    assert (quality.covers_from_frame, quality.bound_share, quality.flags) == (7 * RATE_HZ, 1.01, [])


def test_a_model_without_limits_is_not_measured() -> None:
    patrols = Patrols(Budget(0.0, 1.0))
    assert patrols.begin(SimpleNamespace(quality=None), SimpleNamespace()) is None
    patrols.close()
