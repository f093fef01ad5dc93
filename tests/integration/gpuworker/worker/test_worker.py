"""A worker process and what happens to its jobs: faults of the engine, of the host, of the worker, of the bus."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus import wire
from bus.jobs.client import Bus, open_bus
from tests.support import fleets
from tests.support.bus import until
from tests.support.fleets import Stack
from tests.support.jobs import JobListener, listen, tone_job
from tests.support.programs import Fleet, host_pid, wait_gone
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually, freeze

#: Half a second of audio a second: long enough to be hit in the middle.
STEADY = {"block_ms": 50, "compute_ms": 50, "device": "own"}

#: For those tests that leave it as it was.
stack = fleets.stack("tone", 8, "--max-fails", "0")


@pytest.fixture
async def shared(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test", declare=False) as bus:
        yield bus


def failure(payload: bytes) -> dict[str, Any]:
    return dict(json.loads(payload))


async def queue_is_empty(bus: Bus) -> bool:
    return (await bus.js.info(bus.subjects.jobs_stream))["state"]["messages"] == 0


async def test_a_job_is_made_sample_exact_and_leaves_the_queue(shared: Bus) -> None:
    received = await listen(shared, tone_job(seconds=3.3, block_ms=70))
    done = wire.decode(wire.Done, received.end.payload)
    assert (received.end.kind, received.pcm) == ("done", tone_pcm(3.3))
    assert (done.frames, done.seconds, done.crc32) == (79200, 3.3, f"{__import__('zlib').crc32(received.pcm):08x}")
    await until(lambda: queue_is_empty(shared))


async def test_first_entry_is_one_block_and_later_entries_grow(shared: Bus) -> None:
    received = await listen(shared, tone_job(seconds=20, block_ms=20, compute_ms=1))
    sizes = [len(entry.payload) for entry in received.entries if entry.kind == "block"]
    assert sizes[0] == 960
    assert max(sizes) > 10 * sizes[0]
    assert max(sizes) <= 64 << 10


async def test_slots_bound_what_a_worker_holds(fleet: Fleet, bus: Bus, tmp_path: Path) -> None:
    worker = fleet.worker("w1", "tone", 3)
    gate = tmp_path / "open"
    jobs = [tone_job(seconds=0.5, gate={"path": str(gate), "before_block": 1}, device="own") for _ in range(8)]
    async with asyncio.TaskGroup() as group:
        ends = [group.create_task(listen(bus, job)) for job in jobs]
        await eventually(lambda: len(worker.events("job.started")) == 3)
        states = [await bus.logs.lease(bus.subjects.job_key("public", job.id)) for job in jobs]
        assert sum(state is not None for state in states) == 3
        gate.touch()
    assert all(end.result().pcm == tone_pcm(0.5) for end in ends)


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        ({"kind": "raise", "at_block": 2}, "engine_failed", "RuntimeError"),
        ({"kind": "nan", "at_block": 2}, "engine_failed", "not finite"),
        ({"kind": "oom", "at_block": 2}, "out_of_memory", "tone"),
    ],
)
async def test_a_models_failure_is_its_jobs_outcome_alone(
    stack: Stack, shared: Bus, fault: dict[str, Any], code: str, word: str
) -> None:
    async with asyncio.TaskGroup() as group:
        sick = group.create_task(listen(shared, tone_job(seconds=1, fault=fault, **STEADY)))
        well = group.create_task(listen(shared, tone_job(seconds=1, **STEADY)))
    end = failure(sick.result().end.payload)
    assert (sick.result().end.kind, end["code"]) == ("failed", code)
    assert word in end["message"]
    assert well.result().pcm == tone_pcm(1)
    assert not stack.worker.events("host.ended")


@pytest.mark.parametrize("ack_wait_s", [2.0])
async def test_kill_minus_9_of_a_worker_in_mid_stream_is_inaudible(fleet: Fleet, bus: Bus) -> None:
    workers = [fleet.worker("w1"), fleet.worker("w2")]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        streams = [group.create_task(listen(bus, tone_job(seconds=2.5, **STEADY))) for _ in range(6)]
        await eventually(lambda: any(each.events("job.started") for each in workers))
        next(each for each in workers if each.events("job.started")).kill()
    assert all(stream.result().pcm == tone_pcm(2.5) for stream in streams)


@pytest.mark.slow
@pytest.mark.parametrize("ack_wait_s", [2.0])
async def test_a_frozen_worker_that_comes_back_adds_nothing_to_the_log(fleet: Fleet, bus: Bus) -> None:
    frozen = fleet.worker("w1")
    async with asyncio.timeout(40), JobListener(bus, tone_job(seconds=3, **STEADY)) as listener:
        await listener.until_bytes(10_000)
        freeze(host_pid(frozen))
        freeze(frozen.pid)
        fleet.worker("w2")
        await listener.until_bytes(30_000)
        frozen.send(signal.SIGCONT)
        os.kill(host_pid(frozen), signal.SIGCONT)
        received = await listener.to_the_end()
        assert received.pcm == tone_pcm(3)
        assert [start.worker for start in received.starts] == ["w1", "w2"]
        frozen.wait_for("job.finished")
        assert frozen.events("job.finished")[0]["outcome"] == "fenced"


@pytest.mark.slow
@pytest.mark.parametrize("ack_wait_s", [60.0])
async def test_sigterm_hands_running_jobs_back_in_mid_stream_at_no_cost(fleet: Fleet, bus: Bus) -> None:
    first = fleet.worker("w1", "tone", 8, "--drain-s", "0.2")
    fleet.worker("w2", "tone", 8, "--backup")
    async with asyncio.timeout(30), JobListener(bus, tone_job(seconds=3, **STEADY)) as listener:
        await listener.until_bytes(10_000)
        assert await asyncio.to_thread(first.stop) == 0
        received = await listener.to_the_end()
    assert received.pcm == tone_pcm(3)
    assert [(start.worker, start.attempt) for start in received.starts] == [("w1", 1), ("w2", 1)]


@pytest.mark.slow
async def test_a_draining_worker_finishes_its_jobs_and_takes_no_new_one(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 8, "--drain-s", "10")
    async with asyncio.timeout(30), JobListener(bus, tone_job(seconds=1.5, **STEADY)) as listener:
        await listener.until_bytes(10_000)
        worker.send(signal.SIGTERM)
        await eventually(lambda: worker.events("worker.draining"))
        late = tone_job(seconds=0.5)
        async with JobListener(bus, late):
            received = await listener.to_the_end()
            await asyncio.to_thread(worker.process.wait, 20)
            assert received.starts[0].worker == "w1"
            assert received.pcm == tone_pcm(1.5)
            assert await bus.logs.lease(bus.subjects.job_key("public", late.id)) is None


@pytest.mark.parametrize("ack_wait_s", [60.0])
async def test_a_revocation_found_by_a_refused_append_is_logged_like_an_announced_one(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 1)
    async with asyncio.timeout(30), JobListener(bus, tone_job(seconds=600, **STEADY)) as listener:
        await listener.until_bytes(10_000)
        seq, lease = await bus.logs.lease(listener.name) or (0, wire.Lease(state=wire.LeaseState.RUNNING))
        await bus.logs.take(listener.name, msgspec.structs.replace(lease, state=wire.LeaseState.HANDED_BACK), seq)
        assert worker.wait_for("job.stopped")["why"] == "revoked"
        assert len(worker.events("job.fenced")) == 1
        await bus.logs.end(listener.name, wire.End.CANCELLED, "by a test")


@pytest.mark.parametrize("ack_wait_s", [60.0])
async def test_cancel_frees_the_slot_within_a_block(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker("w1", "tone", 1)
    async with asyncio.timeout(25), JobListener(bus, tone_job(seconds=600, **STEADY)) as listener:
        await listener.until_bytes(10_000)
        assert await bus.logs.end(listener.name, wire.End.CANCELLED, "by a test") == "cancelled"
        assert (await listener.to_the_end()).end.kind == "cancelled"
        received = await listen(bus, tone_job(seconds=0.5))
    assert received.pcm == tone_pcm(0.5)
    assert worker.events("job.finished")[0]["outcome"] == "fenced"


async def test_a_cancelled_queued_job_never_runs(fleet: Fleet, bus: Bus) -> None:
    job = tone_job(seconds=1)
    async with JobListener(bus, job) as listener:
        await bus.logs.end(listener.name, wire.End.CANCELLED, "by a test")
        worker = fleet.worker()
        assert (await listen(bus, tone_job(seconds=0.2))).end.kind == "done"
        assert [event["job"] for event in worker.events("job.started")] != [job.id]
        assert job.id not in {event.get("job") for event in worker.events("job.started")}


async def test_a_running_job_expires_at_its_deadline_and_frees_its_slot(fleet: Fleet, bus: Bus) -> None:
    fleet.worker("w1", "tone", 1)
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    async with asyncio.timeout(30):
        received = await listen(bus, tone_job(seconds=600, expires_at=due, **STEADY))
        assert received.end.kind == "expired"
        assert received.pcm == tone_pcm(len(received.pcm) / 48_000)
        assert (await listen(bus, tone_job(seconds=0.2))).end.kind == "done"


async def test_a_job_that_is_pulled_after_its_deadline_expires_without_running(fleet: Fleet, bus: Bus) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.05)
    async with asyncio.timeout(30), JobListener(bus, tone_job(seconds=1, expires_at=due)) as listener:
        await eventually(lambda: bus.clock.now() > due.timestamp())
        fleet.worker()
        received = await listener.to_the_end()
    assert (received.end.kind, received.pcm) == ("expired", b"")


async def test_garbage_on_the_job_subject_kills_nothing_and_its_error_names_the_fault(
    stack: Stack, shared: Bus
) -> None:
    subject = shared.subjects.job("tone", "v1", "interactive", "public")
    for garbage in (
        b"\xff\xfe\x00",
        b"[]",
        b"{",
        b'{"input": 7}',
        b'{"input":"x","model":"speech"}',
        b'{"input":"x","id":"a.b"}',
    ):
        ack = await shared.js.publish(subject, garbage)
        name = shared.subjects.job_key("public", f"q{ack.seq}")
        async with asyncio.timeout(20):
            while (tail := await shared.logs.tail(name)) is None:
                await asyncio.sleep(0)
        assert failure(tail.payload)["code"] == "invalid"
        assert failure(tail.payload)["message"]
    assert (await listen(shared, tone_job(seconds=0.2))).pcm == tone_pcm(0.2)
    assert stack.worker.process.poll() is None


async def test_bad_params_from_the_bus_fail_the_job_with_field_limit_and_value(shared: Bus) -> None:
    received = await listen(shared, tone_job(seconds=-3))
    end = failure(received.end.payload)
    assert (end["code"], end["path"]) == ("invalid", "params.seconds")
    assert "-3" in end["message"]


async def test_a_second_live_worker_of_one_id_refuses_to_start(fleet: Fleet) -> None:
    fleet.worker("w1")
    second = fleet.worker("w1", wait=False)
    assert await asyncio.to_thread(second.process.wait, 30) == 1
    assert "w1" in second.log()


async def test_a_killed_worker_takes_its_engine_host_along(fleet: Fleet, bus: Bus) -> None:
    worker = fleet.worker()
    host = host_pid(worker)
    async with JobListener(bus, tone_job(seconds=5, fault={"kind": "hang", "at_block": 1})) as listener:
        await listener.until_bytes(1)
        worker.kill()
    await asyncio.to_thread(wait_gone, host)
