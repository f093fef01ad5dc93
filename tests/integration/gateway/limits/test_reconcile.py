"""How a counted job is found to have ended, and how many requests to the queue that takes."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from bus import wire
from bus.jobs.client import Bus
from gateway.limits.audio_charges import AudioCharges
from gateway.limits.counted_jobs import CountedJob, CountedJobs
from gateway.limits.pending_charges import PendingCharges
from gateway.limits.reconcile import Reconciler
from tests.support.bus import done, num_jobs, start
from tests.support.jobs import tone_job

ACCOUNT = "key-k"


def no_change() -> None:
    """No other gateway is there."""


def reconciler_of(bus: Bus, jobs: CountedJobs, tasks: asyncio.TaskGroup) -> Reconciler:
    charges = PendingCharges(AudioCharges(bus), bus.subjects, no_change)
    return Reconciler(bus, jobs, charges, no_change, tasks)


def another_gateways(name: tuple[str, str], queue_seq: int) -> CountedJob:
    return CountedJob(name, ACCOUNT, "other", time.monotonic(), 0.0, queue_seq)


class Place:
    """An account with one job, whose message is in the queue; counts the requests to the queue."""

    def __init__(self, bus: Bus, queue_seq: int, tasks: asyncio.TaskGroup) -> None:
        self.num_requests = 0
        #: The number of the request after which the job leaves the queue.
        self.leaves_after = -1
        jobs = CountedJobs("me")
        jobs.add(another_gateways(("acme", "j"), queue_seq))
        self.reconciler = reconciler_of(bus, jobs, tasks)
        self._bus = bus
        self._queue_seq = queue_seq
        self._holds = bus.js.direct.holds
        bus.js.direct.holds = self._counted  # type: ignore[method-assign]

    async def _counted(self, stream: str, seq: int) -> bool:
        self.num_requests += 1
        holds = await self._holds(stream, seq)
        if self.num_requests == self.leaves_after:
            await self.leave_the_queue()
        return holds

    async def leave_the_queue(self) -> None:
        await self._bus.js.delete(self._bus.subjects.jobs_stream, self._queue_seq)


@pytest.fixture
async def place(bus: Bus) -> AsyncIterator[Place]:
    ack = await bus.js.publish(bus.subjects.job("m", "v1", "batch", "acme"), b'{"input":"x"}')
    async with asyncio.TaskGroup() as tasks:
        yield Place(bus, ack.seq, tasks)


async def test_a_job_that_leaves_the_queue_during_a_refresh_frees_its_place(place: Place) -> None:
    place.leaves_after = 1
    assert await place.reconciler.refresh(ACCOUNT, 1)
    assert place.num_requests == 2


async def test_requests_at_one_moment_share_a_refresh_and_a_later_one_gets_a_new_one(place: Place) -> None:
    assert not any(await asyncio.gather(*(place.reconciler.refresh(ACCOUNT, 1) for _ in range(200))))
    assert place.num_requests <= 4
    await place.leave_the_queue()
    assert await place.reconciler.refresh(ACCOUNT, 1)


async def test_a_job_that_has_ended_frees_its_place_before_its_worker_acknowledges_it(bus: Bus) -> None:
    """The worker stops between the two; the client has received the end, and sends its next job to another gateway."""
    delivery, claim, writer = await start(bus, tone_job())
    async with asyncio.TaskGroup() as tasks:
        jobs = CountedJobs("me")
        reconciler = reconciler_of(bus, jobs, tasks)
        jobs.add(another_gateways((claim.key.tenant, claim.key.job), delivery.seq))
        assert not await reconciler.refresh(ACCOUNT, 1), "it runs"
        await writer.end(wire.End.DONE, done(writer))
        assert await num_jobs(bus) == 1
        assert await reconciler.refresh(ACCOUNT, 1)
