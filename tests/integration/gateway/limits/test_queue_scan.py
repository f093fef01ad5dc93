"""Counting the jobs of a queue into which anything may have been published."""

import msgspec

from bus.access.keys import Limits
from bus.jobs.client import Bus
from gateway.limits.counted_jobs import CountedJobs
from gateway.limits.queue_scan import QueueScan


async def test_a_message_that_is_no_valid_job_counts_against_no_limit(bus: Bus) -> None:
    """Code behind the counts makes subjects of these ids: an id that is no token would raise in a task of the gateway."""
    bodies = [
        {"input": "x", "id": "good", "client": {"key": "k"}},
        {"input": "x", "id": "a.b", "client": {"key": "k"}},
        {"input": "x", "id": "bad", "seed": 10**30, "client": {"key": "k"}},
        {"input": "x", "id": "worse", "client": {"key": "a.b"}},
    ]
    for body in bodies:
        await bus.js.publish(bus.subjects.job("tone", "v1", "standard", "acme"), msgspec.json.encode(body))
    jobs = CountedJobs("me")
    await QueueScan(bus, jobs, lambda key, tenant: Limits(concurrent_jobs=1, audio_s_per_day=10)).load("acme")
    assert (jobs.count("key-k"), jobs.count("key-a.b")) == (1, 0)
