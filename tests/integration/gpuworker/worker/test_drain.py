"""`antiphon drain`: one worker is asked by its name to stop, and nobody who listens hears it."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from bus.jobs.client import Bus
from tests.support.commands import on_bus
from tests.support.doors import gated
from tests.support.jobs import Ears, listen, tone_job
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm

STEADY = {"block_ms": 50, "compute_ms": 50}


@pytest.fixture
def ack_wait_s() -> float:
    """What is not given back comes again long after the test has failed."""
    return 120.0


async def drain(bus: Bus, worker: str) -> "subprocess.CompletedProcess[str]":
    return await on_bus(bus, "drain", worker, "--json")


async def test_a_drained_workers_jobs_go_on_elsewhere_in_mid_stream_and_it_ends_well(
    fleet: Fleet, bus: Bus, tmp_path: Path
) -> None:
    first = fleet.worker("w1", "tone", 8, "--drain-s", "0.2")
    # It does not end on the first one, however long the other takes to start.
    job = tone_job(**gated(tmp_path / "open", 20, seconds=3, **STEADY))
    async with asyncio.timeout(60), Ears(bus, job) as ears:
        await ears.until_bytes(10_000)
        fleet.worker("w2")
        asked = await drain(bus, "w1")
        assert json.loads(asked.stdout) == {"worker": "w1", "held": 1, "drain_s": 0.2}
        assert await asyncio.to_thread(first.process.wait, 20) == 0
        (tmp_path / "open").touch()
        heard = await ears.to_the_end()
    assert heard.pcm == tone_pcm(3)
    assert [(start.worker, start.attempt) for start in heard.starts] == [("w1", 1), ("w2", 1)]


@pytest.mark.slow
async def test_a_rolling_restart_is_not_heard(fleet: Fleet, bus: Bus, tmp_path: Path) -> None:
    """Each worker in turn is drained and started again under its name, with streams running all the while."""
    workers = {name: fleet.worker(name, "tone", 8, "--drain-s", "0") for name in ("w1", "w2")}
    # The last second waits for the last restart, should that take so long.
    params = gated(tmp_path / "open", 220, seconds=12, **STEADY)
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        ears = [group.create_task(listen(bus, tone_job(**params))) for _ in range(4)]
        for name, worker in workers.items():
            assert (await drain(bus, name)).returncode == 0
            assert await asyncio.to_thread(worker.process.wait, 20) == 0
            again = fleet.worker(name, "tone", 8, wait=False)
            await asyncio.to_thread(again.wait_for, "worker.ready")
        (tmp_path / "open").touch()
    assert all(ear.result().pcm == tone_pcm(12) for ear in ears)
    assert {start.attempt for ear in ears for start in ear.result().starts} == {1}
    assert min(len(ear.result().starts) for ear in ears) >= 2


async def test_draining_nobody_says_so(bus: Bus) -> None:
    asked = await drain(bus, "w9")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "no live worker is called 'w9'" in asked.stderr


@pytest.mark.parametrize("name", ["w.1", "*", ""])
async def test_what_can_be_no_worker_is_refused(bus: Bus, name: str) -> None:
    asked = await drain(bus, name)
    assert asked.returncode == 1
    assert "can be no worker's id" in asked.stderr
