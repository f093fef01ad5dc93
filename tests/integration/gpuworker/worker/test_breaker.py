"""A worker whose engine fails pauses, and resumes after one trial job."""

import asyncio
import json
import urllib.request
from typing import Any

import pytest

from bus import wire
from bus.jobs.client import Bus
from tests.support.bus import until
from tests.support.jobs import JobListener, listen, tone_job
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

RAISES = {"kind": "raise", "at_block": 0}


async def shown_breaker(url: str) -> str:
    def fetch() -> Any:
        with urllib.request.urlopen(f"{url}/v1/fleet", timeout=5) as answer:
            return json.load(answer)

    workers = (await asyncio.to_thread(fetch))["workers"]
    return str(workers[0]["breaker"]) if workers else ""


async def is_shown(url: str, state: str) -> bool:
    return await shown_breaker(url) == state


async def test_an_ill_worker_takes_nothing_for_fail_timeout_s_and_then_one_job(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 8, "--max-fails", "2", "--fail-timeout-s", "3")
    _, url = await asyncio.to_thread(fleet.gateway)
    async with asyncio.timeout(90):
        await until(lambda: is_shown(url, "closed"))
        for _ in range(2):
            assert (await listen(bus, tone_job(fault=RAISES))).end.kind == "failed"
        await eventually(lambda: worker.events("breaker.opened"))
        await until(lambda: is_shown(url, "open"))
        started = len(worker.events("job.started"))
        # The first job on trial fails and opens the breaker again; the second one succeeds and closes it for the others.
        async with asyncio.TaskGroup() as group:
            trial = group.create_task(listen(bus, tone_job(fault=RAISES)))
            await asyncio.to_thread(worker.wait_for, "breaker.trial")
            assert len(worker.events("job.started")) <= started + 1
            await asyncio.to_thread(worker.wait_for, "breaker.opened", 2)
            jobs = [group.create_task(listen(bus, tone_job(seconds=0.5, compute_ms=20))) for _ in range(3)]
        assert trial.result().end.kind == "failed"
        assert [job.result().pcm == tone_pcm(0.5) for job in jobs] == [True] * 3
        await until(lambda: is_shown(url, "closed"))
    opened, tried = (worker.events(f"breaker.{name}") for name in ("opened", "trial"))
    assert (len(opened), len(tried), len(worker.events("breaker.closed"))) == (2, 2, 1)
    # While it was on trial the second time, one job alone ran.
    order = [event for event in _all(worker) if event["event"] in {"breaker.trial", "breaker.closed", "job.started"}]
    second = [event["event"] for event in order][[i for i, e in enumerate(order) if e["event"] == "breaker.trial"][1] :]
    assert second[:3] == ["breaker.trial", "job.started", "breaker.closed"]


def _all(worker: Any) -> list[dict[str, Any]]:
    names = ("breaker.trial", "breaker.closed", "job.started")
    return sorted((event for name in names for event in worker.events(name)), key=lambda event: event["timestamp"])


async def test_requests_that_cannot_be_served_are_no_faults_of_the_worker(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 8, "--max-fails", "1")
    async with asyncio.timeout(60):
        for _ in range(3):
            received = await listen(bus, tone_job(seconds=-1))
            assert wire.decode(wire.Failed, received.end.payload).code == "invalid"
        assert (await listen(bus, tone_job(seconds=0.2))).pcm == tone_pcm(0.2)
    assert not worker.events("breaker.opened")


@pytest.mark.parametrize("fault", ["oom", "exit", "hang"])
async def test_every_fault_of_the_engine_counts(fleet: Fleet, bus: Bus, fault: str) -> None:
    worker = fleet.worker("w1", "tone", 8, "--max-fails", "1", "--fail-timeout-s", "1", "--stall-s", "1")
    async with asyncio.timeout(60):
        await listen(bus, tone_job(seconds=0.5, fault={"kind": fault, "at_block": 1}))
        await eventually(lambda: worker.events("breaker.opened"))
        assert (await listen(bus, tone_job(seconds=0.2))).pcm == tone_pcm(0.2)
        await eventually(lambda: worker.events("breaker.closed"))


async def test_a_trial_job_that_goes_on_for_long_need_not_come_to_its_end_first(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 8, "--max-fails", "1", "--fail-timeout-s", "1")
    async with asyncio.timeout(60):
        assert (await listen(bus, tone_job(fault=RAISES))).end.kind == "failed"
        await asyncio.to_thread(worker.wait_for, "breaker.opened")
        async with JobListener(bus, tone_job(seconds=600, block_ms=50, compute_ms=50, device="own")) as listener:
            await listener.until_bytes(1)
            assert (await listen(bus, tone_job(seconds=0.2))).pcm == tone_pcm(0.2)
            await bus.logs.end(listener.name, wire.End.CANCELLED, "by a test")
    assert worker.events("breaker.closed")
