"""Acceptances that are cut off, and listeners of a process that ends."""

import asyncio
from typing import Any

import pytest

from bus.jobs.log import Logs
from bus.settings import BusSettings
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job
from tests.support.log_writer import until_ended, until_queued


@pytest.mark.parametrize("cut_at", ["before the queue has it", "before its birth", "after its birth"])
async def test_a_client_that_leaves_during_the_acceptance_leaves_no_orphan(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch, cut_at: str
) -> None:
    async with gateway_here(bus_settings) as (gateway, _):
        reached, job = asyncio.Event(), tone_job()
        key = gateway.bus.subjects.job_key("public", job.id)
        create, publish = Logs.create, gateway.bus.js.publish

        async def stuck(*arguments: Any, **more: Any) -> Any:
            if cut_at == "after its birth":
                await create(*arguments, **more)
            reached.set()
            await asyncio.Event().wait()

        if cut_at == "before the queue has it":
            monkeypatch.setattr(gateway.bus.js, "publish", stuck)
        else:
            monkeypatch.setattr(Logs, "create", stuck)

        async def client() -> None:
            async with gateway.interest.listen(key, run_on=False, linger_s=0) as listener:
                await gateway.jobs.accept(job, listener)

        client_task = asyncio.create_task(client())
        await reached.wait()
        monkeypatch.setattr(Logs, "create", create)
        monkeypatch.setattr(gateway.bus.js, "publish", publish)
        client_task.cancel()
        assert await until_ended(gateway.bus, job) == "cancelled"
        # A message without a birth is surplus: the worker that pulls it finds the birth of the other one.
        await until_queued(gateway.bus, 1 if cut_at == "before its birth" else 0)


async def test_listeners_of_a_process_that_ends_did_not_leave(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, _):
        key = gateway.bus.subjects.job_key("public", "j1")
        settling = []
        for closing in (False, True):
            if closing:
                gateway.interest.close()
            async with gateway.interest.listen(key, run_on=False, linger_s=0):
                await asyncio.sleep(0)
            settling.append([task for task in asyncio.all_tasks() if task.get_name() == "left j1"])
            await asyncio.gather(*settling[-1])
        assert [len(tasks) for tasks in settling] == [1, 0]
