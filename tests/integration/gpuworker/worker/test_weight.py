"""`--weight` and `--backup`: which worker gets the jobs, among workers that could all take them."""

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

import pytest

from bus import wire
from bus.fleet.messages import Heartbeat
from bus.jobs.client import Bus
from bus.transport.parser import Message
from tests.support.bus import num_jobs, until
from tests.support.jobs import JobListener, listen, tone_job
from tests.support.programs import Fleet, Program
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

#: Seconds each: they run with the slow ones, in CI too.
pytestmark = pytest.mark.slow

SHORT = {"seconds": 0.1, "block_ms": 100, "device": "own"}


@pytest.fixture
def ack_wait_s() -> float:
    """Nothing is delivered twice because a busy machine was slow."""
    return 30.0


async def flood(bus: Bus, count: int, compute_ms: int) -> None:
    """Queue jobs without listeners, faster than they are computed."""
    jobs = [tone_job(**SHORT, compute_ms=compute_ms, run_on=True) for _ in range(count)]
    subject = bus.subjects.job("tone", "v1", "interactive", "public")
    await asyncio.gather(*(bus.js.publish(subject, wire.encode(job)) for job in jobs))


async def is_empty(bus: Bus) -> bool:
    return await num_jobs(bus) == 0


def starts(workers: list[Program]) -> list[int]:
    return [len(worker.events("job.started")) for worker in workers]


async def know_each_other(workers: list[Program], bus: Bus) -> None:
    """Wait until each worker has received the others' heartbeats, which come every second at least."""
    received: Counter[str] = Counter()
    subscription = bus.connection.subscribe(bus.subjects.all_heartbeats, lambda m: received.update([m.subject]))
    await eventually(lambda: len(received) == len(workers) and min(received.values()) >= 2)
    subscription.close()


async def reports_a_free_slot(worker: str, bus: Bus) -> None:
    """Wait until a worker has reported a free slot in a heartbeat, and so pulls a job."""
    reported: list[int] = []
    heartbeats = bus.connection.subscribe(
        bus.subjects.heartbeat(worker), lambda m: reported.append(wire.decode(Heartbeat, m.data).free)
    )
    await eventually(lambda: reported and reported[-1] > 0)
    heartbeats.close()


@pytest.mark.parametrize(("slots", "compute_ms"), [(4, 40), (1, 10)])
async def test_under_saturation_starts_are_shared_by_weight_within_a_tenth(
    fleet: Fleet, bus: Bus, slots: int, compute_ms: int
) -> None:
    workers = [fleet.worker(f"w{weight}", "tone", slots, "--weight", str(weight)) for weight in (1, 2, 4)]
    await know_each_other(workers, bus)
    # So many that a worker whose reports are late, and extrapolated, for some tenths of a second changes no tenth.
    await flood(bus, 1050, compute_ms)
    await until(lambda: is_empty(bus), within_s=300)
    assert sum(starts(workers)) == 1050
    for count, weight in zip(starts(workers), (1, 2, 4), strict=True):
        assert count == pytest.approx(150 * weight, rel=0.1), starts(workers)


async def test_a_worker_of_any_weight_that_is_alone_takes_everything_at_full_speed(fleet: Fleet, bus: Bus) -> None:
    light = fleet.worker("w1", "tone", 4, "--weight", "1")
    heavy = fleet.worker("w2", "tone", 4, "--weight", "1000")
    await know_each_other([light, heavy], bus)
    await flood(bus, 10, 10)
    await until(lambda: is_empty(bus))
    heavy.kill()
    async with asyncio.timeout(20):
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(listen(bus, tone_job(**SHORT))) for _ in range(20)]
    assert all(end.result().pcm == tone_pcm(0.1) for end in ends)


async def test_a_backup_works_only_while_no_primary_is_free_to(fleet: Fleet, bus: Bus) -> None:
    primary = fleet.worker("w1", "tone", 8)
    backup = fleet.worker("w2", "tone", 8, "--backup")
    await know_each_other([primary, backup], bus)
    async with asyncio.timeout(60):
        for _ in range(24):
            # Few enough that those before, which may not have left their slots yet, fit in beside them.
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(listen(bus, tone_job(**SHORT, compute_ms=20)))
        await eventually(lambda: len(primary.events("job.finished")) == 72)
        assert starts([primary, backup]) == [72, 0]
        long = {"seconds": 600, "block_ms": 100, "compute_ms": 100, "device": "own"}
        async with contextlib.AsyncExitStack() as stack:
            listeners = [await stack.enter_async_context(JobListener(bus, tone_job(**long))) for _ in range(8)]
            for each in listeners:
                await each.until_bytes(1)
            assert starts([primary, backup]) == [80, 0]
            assert (await listen(bus, tone_job(**SHORT))).pcm == tone_pcm(0.1)
            assert starts([primary, backup]) == [80, 1]
            await bus.logs.end(listeners[0].name, wire.End.CANCELLED, "by a test")
            await eventually(lambda: len(primary.events("job.finished")) == 73)
            await reports_a_free_slot("w1", bus)
            assert (await listen(bus, tone_job(**SHORT))).pcm == tone_pcm(0.1)
            assert starts([primary, backup]) == [81, 1]
            for each in listeners[1:]:
                await bus.logs.end(each.name, wire.End.CANCELLED, "by a test")


async def test_a_backup_pulls_nothing_while_a_primary_is_free_and_never_leaves_a_pull_open(
    fleet: Fleet, bus: Bus
) -> None:
    """Its open pull would get the job that arrives just before a primary opens its next pull."""
    primary = fleet.worker("w1", "tone", 1)
    backup = fleet.worker("w2", "tone", 1, "--backup")
    await know_each_other([primary, backup], bus)
    pulls: list[dict[str, Any]] = []

    def pulled(message: Message) -> None:
        body = json.loads(message.data)
        if body["priority"] == 1:
            pulls.append(body)

    bus.connection.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{bus.subjects.jobs_stream}.*", pulled)
    async with asyncio.timeout(60):
        for _ in range(3):  # heartbeats of both; no timer of the backup is left from before they met
            await know_each_other([primary, backup], bus)
        assert pulls == []
        async with JobListener(bus, tone_job(seconds=600, block_ms=100, compute_ms=100, device="own")) as listener:
            await listener.until_bytes(1)
            await eventually(lambda: len(pulls) >= 9)
            await bus.logs.end(listener.name, wire.End.CANCELLED, "by a test")
    assert all(body.get("no_wait") for body in pulls)


async def test_a_backup_takes_over_from_a_primary_that_is_gone(fleet: Fleet, bus: Bus) -> None:
    primary = fleet.worker("w1", "tone", 2)
    backup = fleet.worker("w2", "tone", 2, "--backup")
    await know_each_other([primary, backup], bus)
    primary.kill()
    async with asyncio.timeout(20):
        assert (await listen(bus, tone_job(**SHORT))).pcm == tone_pcm(0.1)
    assert starts([primary, backup]) == [0, 1]
