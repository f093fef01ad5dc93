"""Room under a limit of jobs at once: a job whose end can be heard is over, whatever its worker has still to say."""

import asyncio
import time

from bus.client import Bus
from bus.keys import Limits
from bus.usage import Gossip
from gateway.limits.audio import Audio
from gateway.limits.jobs import Counted, CountedJobs
from gateway.limits.watch import Watch
from tests.support.bus import done, num_jobs, start
from tests.support.jobs import tone_job


async def test_a_job_that_has_ended_gives_its_place_though_its_worker_has_not_acknowledged_it(bus: Bus) -> None:
    """A worker that stands still between the two; who heard the end asks another gateway, which did not."""
    delivery, claim, by = await start(bus, tone_job())
    async with asyncio.TaskGroup() as tasks:
        jobs = CountedJobs("me")
        watch = Watch(
            bus, jobs, Audio(bus), Gossip(bus.connection, bus.subjects, bus.clock), tasks, lambda *_: Limits()
        )
        name = (claim.name.tenant, claim.name.job)
        jobs.add(Counted(name, "key-k", "other", time.monotonic(), 0.0, delivery.seq))
        assert not await watch.make_room("key-k", 1), "it runs"
        await by.end("done", done(by))
        assert await num_jobs(bus) == 1
        assert await watch.make_room("key-k", 1)
