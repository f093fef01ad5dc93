"""`antiphon drain`: a worker is requested by its id to stop, and no listener notices."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from bus.jobs.client import Bus
from tests.support.commands import on_bus
from tests.support.doors import gated
from tests.support.jobs import JobListener, listen, tone_job
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm

STEADY = {"block_ms": 50, "compute_ms": 50}


@pytest.fixture
def ack_wait_s() -> float:
    """A job that is not handed back is redelivered only long after the test has failed."""
    return 120.0


async def drain(bus: Bus, worker: str) -> "subprocess.CompletedProcess[str]":
    return await on_bus(bus, "drain", worker, "--json")


@pytest.mark.slow
async def test_a_drained_workers_jobs_go_on_elsewhere_in_mid_stream_and_it_ends_well(
    fleet: Fleet, bus: Bus, tmp_path: Path
) -> None:
    first = fleet.worker("w1", "tone", 8, "--drain-s", "0.2")
    # It does not end on the first one, however long the other takes to start.
    job = tone_job(**gated(tmp_path / "open", 20, seconds=3, **STEADY))
    async with asyncio.timeout(60), JobListener(bus, job) as listener:
        await listener.until_bytes(10_000)
        fleet.worker("w2")
        answer = await drain(bus, "w1")
        assert json.loads(answer.stdout) == {"worker": "w1", "held": 1, "drain_s": 0.2}
        assert await asyncio.to_thread(first.process.wait, 20) == 0
        (tmp_path / "open").touch()
        received = await listener.to_the_end()
    assert received.pcm == tone_pcm(3)
    assert [(start.worker, start.attempt) for start in received.starts] == [("w1", 1), ("w2", 1)]


@pytest.mark.slow
async def test_a_rolling_restart_is_inaudible(fleet: Fleet, bus: Bus, tmp_path: Path) -> None:
    """Each worker in turn is drained and started again under its name, with streams running all the while."""
    workers = {name: fleet.worker(name, "tone", 8, "--drain-s", "0") for name in ("w1", "w2")}
    # The last second waits for the last restart, should that take so long.
    params = gated(tmp_path / "open", 220, seconds=12, **STEADY)
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        streams = [group.create_task(listen(bus, tone_job(**params))) for _ in range(4)]
        for name, worker in workers.items():
            assert (await drain(bus, name)).returncode == 0
            assert await asyncio.to_thread(worker.process.wait, 20) == 0
            again = fleet.worker(name, "tone", 8, wait=False)
            await asyncio.to_thread(again.wait_for, "worker.ready")
        (tmp_path / "open").touch()
    assert all(stream.result().pcm == tone_pcm(12) for stream in streams)
    assert {start.attempt for stream in streams for start in stream.result().starts} == {1}
    assert min(len(stream.result().starts) for stream in streams) >= 2


async def test_draining_an_unknown_worker_fails_with_its_name(bus: Bus) -> None:
    answer = await drain(bus, "w9")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "no live worker is called 'w9'" in answer.stderr


@pytest.mark.parametrize("name", ["w.1", "*", ""])
async def test_an_invalid_worker_id_is_refused(bus: Bus, name: str) -> None:
    answer = await drain(bus, name)
    assert answer.returncode == 1
    assert "cannot be the id of a worker" in answer.stderr
