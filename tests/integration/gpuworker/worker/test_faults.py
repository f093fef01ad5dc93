"""Jobs whose engine is slow, runs out of memory, or takes its host down with it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from bus import wire
from bus.jobs.client import Bus
from bus.jobs.dead_letters import DeadLetters
from tests.support.doors import gated
from tests.support.jobs import JobListener, listen, tone_job
from tests.support.programs import Fleet, Program, host_pid
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually, freeze

#: The host is nearly always in a step of such a job.
BUSY = {"block_ms": 100, "compute_ms": 200, "device": "shared"}
#: Half a second of audio a second: long enough to be hit in the middle.
STEADY = {"block_ms": 50, "compute_ms": 50, "device": "own"}


@pytest.fixture
def ack_wait_s() -> float:
    """A job that is not handed back is redelivered only long after the test has failed."""
    return 120.0


async def hurt(worker: Program, number: signal.Signals, hosts: int) -> None:
    """Send a signal to the worker's engine host, the `hosts`-th that it has, once that one is in a step of its job."""
    await eventually(lambda: len(worker.events("job.started")) == hosts)
    pid = host_pid(worker)
    await eventually(lambda: "nanosleep" in Path(f"/proc/{pid}/wchan").read_text())  # computing, as `tone` does it
    os.kill(pid, number)
    await eventually(lambda: len(worker.events("host.ended")) == hosts)


async def test_a_slow_step_is_waited_for_and_costs_nothing(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 8, "--stall-s", "5")
    async with asyncio.timeout(30):
        received = await listen(bus, tone_job(seconds=1, fault={"kind": "slow", "at_block": 3}))
    assert received.pcm == tone_pcm(1)
    assert [start.attempt for start in received.starts] == [1]
    assert not worker.events("host.ended")


@pytest.mark.slow
async def test_a_step_that_is_slower_than_stall_s_costs_its_job_an_attempt_and_its_neighbour_none(
    fleet: Fleet, bus: Bus
) -> None:
    fleet.worker("w1", "tone", 8, "--stall-s", "1")
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        slow = group.create_task(
            listen(bus, tone_job(seconds=1, fault={"kind": "slow", "at_block": 4}, block_ms=100, compute_ms=200))
        )
        well = group.create_task(listen(bus, tone_job(seconds=2, block_ms=200, compute_ms=50)))
    assert slow.result().pcm == tone_pcm(1)
    assert well.result().pcm == tone_pcm(2)
    assert [start.attempt for start in slow.result().starts] == [1, 2]
    assert {start.attempt for start in well.result().starts} == {1}


@pytest.mark.slow
async def test_a_batch_that_does_not_fit_is_halved_inaudibly(fleet: Fleet, bus: Bus) -> None:
    fault = {"kind": "oom", "at_block": 4, "min_batch": 3}
    job = {"seconds": 0.5, "block_ms": 50, "compute_ms": 1, "max_batch": 4, "fault": fault}
    worker = fleet.worker("w1", "tone", 5)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        # Jobs that arrive while the device computes this one's block begin together.
        group.create_task(listen(bus, tone_job(seconds=0.1, block_ms=100, compute_ms=3000)))
        await eventually(lambda: len(worker.events("job.started")) == 1)
        ends = [group.create_task(listen(bus, tone_job(**job))) for _ in range(4)]
        await eventually(lambda: len(worker.events("job.started")) == 5)
    assert all(end.result().pcm == tone_pcm(0.5) for end in ends)
    assert {start.attempt for end in ends for start in end.result().starts} == {1}
    assert [event["batch"] for event in worker.events("engine.out_of_memory")] == [4]
    assert not worker.events("host.ended")


async def test_a_host_killed_for_its_memory_in_a_step_costs_that_job_an_attempt_and_it_goes_on(
    fleet: Fleet, bus: Bus
) -> None:
    worker = fleet.worker()
    async with asyncio.timeout(40), JobListener(bus, tone_job(seconds=1, **BUSY)) as listener:
        await listener.until_bytes(4_800)
        await hurt(worker, signal.SIGKILL, 1)
        await eventually(lambda: len(worker.events("job.started")) == 2)
        lease = await bus.logs.lease(listener.name)
        received = await listener.to_the_end()
    assert received.pcm == tone_pcm(1)
    assert [start.attempt for start in received.starts] == [1, 2]
    assert lease is not None
    assert lease[1].host_deaths == 1
    assert worker.events("host.ended")[0]["code"] == -signal.SIGKILL


async def test_a_job_in_which_two_hosts_crash_is_given_up_with_the_place_of_the_crash(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 8, "--max-attempts", "9")
    job = tone_job(seconds=3, **BUSY)
    async with asyncio.timeout(40), JobListener(bus, job) as listener:
        for number in (1, 2):
            await listener.until_bytes(4_800 * 2 * number)
            await hurt(worker, signal.SIGSEGV, number)
        received = await listener.to_the_end()
    failed = wire.decode(wire.Failed, received.end.payload)
    assert (received.end.kind, failed.code, failed.attempt) == ("failed", "interrupted", 2)
    assert "SIGSEGV" in failed.message
    assert received.pcm == tone_pcm(3)[: len(received.pcm)]
    dead = (await DeadLetters(bus).find(job.id)).dead
    assert (dead.attempts, dead.host_deaths, dead.worker) == (2, 2, "w1")
    assert "Segmentation fault" in dead.traceback
    assert "tone.py" in dead.traceback
    assert len(dead.traceback) <= 4096


@pytest.mark.slow
async def test_a_host_that_hangs_twice_in_a_job_leaves_where_it_hung(fleet: Fleet, bus: Bus) -> None:
    fleet.worker("w1", "tone", 8, "--stall-s", "1.5", "--max-attempts", "9")
    job = tone_job(seconds=1, fault={"kind": "hang", "at_block": 2, "times": 9})
    async with asyncio.timeout(40):
        received = await listen(bus, job)
    assert received.end.kind == "failed"
    dead = (await DeadLetters(bus).find(job.id)).dead
    assert (dead.attempts, dead.host_deaths) == (2, 2)
    assert "hung for 1.5 s" in dead.reason
    assert "in _fail" in dead.traceback


@pytest.mark.slow
async def test_a_worker_that_stood_still_blames_no_engine_for_it(fleet: Fleet, bus: Bus) -> None:
    """Worker and host frozen together, in the middle of a step, for longer than a stall may last."""
    worker = fleet.worker("w1", "tone", 8, "--stall-s", "1")
    async with asyncio.timeout(40), JobListener(bus, tone_job(seconds=2, **BUSY)) as listener:
        await listener.until_bytes(4800)
        pids = (worker.pid, host_pid(worker))
        for pid in pids:
            freeze(pid)
        await asyncio.sleep(3)  # the length of the freeze is what is tested
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        received = await listener.to_the_end()
    assert received.pcm == tone_pcm(2)
    assert [start.attempt for start in received.starts] == [1]
    assert not worker.events("job.stalled")
    assert not worker.events("host.hung")


@pytest.mark.slow
async def test_an_exiting_engine_host_gives_every_job_back_at_once_and_only_the_culprit_pays(
    fleet: Fleet, bus: Bus, tmp_path: Path
) -> None:
    fleet.worker()
    # Audio of both is received before the host exits, and the bystander is not over by then.
    sick = tone_job(**gated(tmp_path / "go", 20, seconds=2, fault={"kind": "exit", "at_block": 20}, **STEADY))
    well = tone_job(**gated(tmp_path / "on", 30, seconds=3, **STEADY))
    async with asyncio.timeout(40), JobListener(bus, sick) as culprit, JobListener(bus, well) as bystander:
        await asyncio.gather(culprit.until_bytes(1), bystander.until_bytes(1))
        (tmp_path / "go").touch()
        assert (await culprit.to_the_end()).pcm == tone_pcm(2)
        (tmp_path / "on").touch()
        assert (await bystander.to_the_end()).pcm == tone_pcm(3)
    assert [start.attempt for start in culprit.received.starts] == [1, 2]
    assert [start.attempt for start in bystander.received.starts] == [1, 1]


async def test_killing_the_engine_host_alone_costs_no_sample_and_no_attempt(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker()
    async with asyncio.timeout(30), JobListener(bus, tone_job(seconds=3, **STEADY)) as listener:
        await listener.until_bytes(20_000)
        os.kill(host_pid(worker), signal.SIGKILL)
        received = await listener.to_the_end()
    assert received.pcm == tone_pcm(3)
    assert len(received.starts) == 2
    assert received.starts[1].seam_frame is not None


async def test_a_hanging_engine_is_cut_after_stall_s_and_its_job_goes_on(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 8, "--stall-s", "1")
    async with asyncio.timeout(30):
        received = await listen(bus, tone_job(seconds=1, fault={"kind": "hang", "at_block": 3}))
    assert received.pcm == tone_pcm(1)
    assert [start.attempt for start in received.starts] == [1, 2]
    assert worker.events("host.hung")
    assert not worker.events("breaker.opened")  # one hang is one fault, however many noticed it


async def test_a_job_that_kills_its_host_every_time_fails_after_max_attempts_and_is_dead_lettered(
    fleet: Fleet, bus: Bus
) -> None:
    fleet.worker("w1", "tone", 8, "--max-attempts", "2")
    job = tone_job(seconds=1, fault={"kind": "exit", "at_block": 1, "times": 99})
    async with asyncio.timeout(30):
        received = await listen(bus, job)
    failed = wire.decode(wire.Failed, received.end.payload)
    assert (received.end.kind, failed.code, failed.attempt) == ("failed", "interrupted", 2)
    dead = await bus.js.last(bus.subjects.dead_stream, bus.subjects.dead_job("public", job.id))
    assert dead is not None
    assert "limit is 2" in wire.decode(wire.DeadJob, dead.message.data).reason
