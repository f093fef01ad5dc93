"""Limiters of several gateways in one process, over a real nats-server."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bus import wire
from bus.access.keyring import KeyRing
from bus.access.keys import Keys, Limits
from bus.errors import TooMany, Unreachable
from bus.jobs.client import Bus, open_bus
from bus.jobs.submit import submit
from bus.settings import BusSettings
from gateway.access.caller import Caller
from gateway.limits.limiter import Limiter
from tests.support.bus import num_jobs
from tests.support.doors import gateway_here, tone
from tests.support.fleet import present
from tests.support.jobs import tone_job
from tests.support.nats import fresh_root
from tests.support.restarts import own_server
from tests.support.waiting import eventually


@asynccontextmanager
async def limiters(settings: BusSettings, count: int) -> AsyncIterator[list[tuple[Bus, Limiter]]]:
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        found = []
        running = []
        for _ in range(count):
            bus = await stack.enter_async_context(open_bus(settings, "gateway"))
            limiter = Limiter(bus, KeyRing(bus), None, tasks)
            running.append(tasks.create_task(limiter.run()))
            found.append((bus, limiter))
        await eventually(lambda: all(limiter.num_gateways == count for _, limiter in found))
        yield found
        for task in running:
            task.cancel()


def num_granted(limiter: Limiter, caller: Caller, tries: int) -> int:
    granted = 0
    for _ in range(tries):
        try:
            limiter.requests.grant(caller)
        except TooMany:
            continue
        granted += 1
    return granted


async def test_without_nats_each_gateway_grants_its_fair_share_and_afterwards_the_debt_is_shared() -> None:
    caller = Caller(key="k", limits=Limits(requests_per_s=0.001, burst=12))
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, own_server(Path(folder)) as server:
        settings = BusSettings(nats=server.url, root=fresh_root(), jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)
        async with limiters(settings, 3) as three:
            server.kill()
            await eventually(lambda: not any(bus.connection.state.is_up for bus, _ in three))
            assert [num_granted(limiter, caller, 20) for _, limiter in three] == [4, 4, 4]
            server.start()
            await eventually(lambda: all(bus.connection.state.is_up for bus, _ in three), 30)
            # Each has 8 left by its own count: only the reports of the others make it none.
            await eventually(lambda: [limiter.requests.num_left(caller) for _, limiter in three] == [0, 0, 0])


async def test_a_caller_without_limits_is_counted_nowhere(bus: Bus) -> None:
    async with asyncio.TaskGroup() as tasks:
        limiter = Limiter(bus, KeyRing(bus), None, tasks)
        anonymous = Caller(address="203.0.113.7")
        assert limiter.requests.grant(anonymous) is None
        assert limiter.requests.num_left(anonymous) is None
        job = tone_job()
        assert await limiter.jobs.admit(bus.subjects.job_key(job.tenant, job.id), job) is None
        assert limiter.take_changes(full=True) == limiter.take_changes(full=False)
        assert limiter.jobs.num_jobs(anonymous) is None


async def test_jobs_accepted_before_a_gateway_began_are_counted_without_a_request(bus: Bus) -> None:
    key, _ = await Keys(bus).create("acme", Limits(audio_s_per_day=10, concurrent_jobs=5))
    await submit(bus, tone_job(id="before", tenant="acme", client=wire.Client(api="jobs", key=key.id)))
    caller = Caller(tenant="acme", key=key.id, limits=key.limits)
    async with asyncio.TaskGroup() as tasks:
        ring = KeyRing(bus)
        limiter = Limiter(bus, ring, None, tasks)
        running = [tasks.create_task(ring.run()), tasks.create_task(limiter.run())]
        await eventually(lambda: limiter.jobs.num_jobs(caller) == (1, 5))
        for task in running:
            task.cancel()


async def test_a_job_whose_acceptance_was_not_answered_counts_if_it_was_queued_all_the_same(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unanswered(*args: Any) -> None:
        await submit(*args)
        raise Unreachable("no answer")

    async with gateway_here(bus.settings) as (gateway, http), present(bus, "w1", "b1"):
        _, text = await Keys(gateway.bus).create("acme", Limits(concurrent_jobs=1))
        await gateway.keys.refresh()
        await eventually(lambda: gateway.fleet.ready_workers and gateway.fleet.cards())
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
