"""Room under a limit of jobs at once: a job whose end can be heard is over, whatever its worker has still to say."""

import asyncio
import time
from typing import Any

import pytest

from bus import wire
from bus.access.keys import Keys, Limits
from bus.errors import Unreachable
from bus.jobs.client import Bus
from bus.jobs.submit import submit
from gateway.limits.audio_charges import Audio
from gateway.limits.counted_jobs import Counted, CountedJobs
from gateway.limits.gossip import Gossip
from gateway.limits.reconcile import Watch
from tests.support.bus import done, num_jobs, start
from tests.support.doors import gateway_here, tone
from tests.support.fleet import present
from tests.support.jobs import tone_job
from tests.support.waiting import eventually


async def test_a_job_that_has_ended_gives_its_place_though_its_worker_has_not_acknowledged_it(bus: Bus) -> None:
    """A worker that stands still between the two; who heard the end asks another gateway, which did not."""
    delivery, claim, by = await start(bus, tone_job())
    async with asyncio.TaskGroup() as tasks:
        jobs = CountedJobs("me")
        watch = Watch(
            bus, jobs, Audio(bus), Gossip(bus.connection, bus.subjects, bus.clock), tasks, lambda *_: Limits()
        )
        name = (claim.key.tenant, claim.key.job)
        jobs.add(Counted(name, "key-k", "other", time.monotonic(), 0.0, delivery.seq))
        assert not await watch.make_room("key-k", 1), "it runs"
        await by.end(wire.End.DONE, done(by))
        assert await num_jobs(bus) == 1
        assert await watch.make_room("key-k", 1)


async def test_a_job_whose_acceptance_was_not_answered_counts_if_it_was_queued_all_the_same(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unanswered(*args: Any) -> None:
        await submit(*args)
        raise Unreachable("no answer")

    async with gateway_here(bus.settings) as (gateway, http), present(bus, "w1", "b1"):
        _, text = await Keys(gateway.bus).create("acme", Limits(concurrent_jobs=1))
        await gateway.keys.refresh()
        await eventually(lambda: gateway.fleet.ready and gateway.fleet.cards())
        headers = {"Authorization": f"Bearer {text}"}
        with monkeypatch.context() as losing:
            losing.setattr("gateway.jobs.service.submit", unanswered)
            async with http.post("/v1/jobs", json=tone(), headers=headers) as answer:
                assert answer.status == 503, await answer.text()
        assert await num_jobs(bus) == 1
        async with http.post("/v1/jobs", json=tone(input="another"), headers=headers) as answer:
            assert answer.status == 429, await answer.text()
        async with http.get("/v1/jobs", headers=headers) as answer:
            (first,) = (await answer.json())["jobs"]
        await bus.logs.end(bus.subjects.job_key("acme", first["id"]), wire.End.CANCELLED, "by the test")
        async with http.post("/v1/jobs", json=tone(input="another"), headers=headers) as answer:
            assert answer.status == 202, await answer.text()
