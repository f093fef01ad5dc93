"""Slots have no share per tenant yet."""

import asyncio

import aiohttp
import pytest

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support.nats_asking import STEADY
from tests.support.programs import Fleet
from tests.support.web import Body, ready, speech, until_state

SLOTS = 8
#: Far longer than a first block takes, far shorter than a job that holds a slot.
PATIENCE_S = 5.0


@pytest.mark.slow
@pytest.mark.xfail(reason="device time: issue Served in time", strict=True, raises=TimeoutError)
async def test_an_interactive_request_is_heard_before_one_of_another_tenants_long_batch_jobs_ends(
    fleet: Fleet, bus_settings: BusSettings
) -> None:
    worker = fleet.worker("w1", "tone", SLOTS)
    _, url = fleet.gateway("--anonymous")
    async with aiohttp.ClientSession(url) as http, open_bus(bus_settings, "test") as bus:
        await ready(http, "")
        _, key = await Keys(bus).create("victim", Limits())
        headers = {"Authorization": f"Bearer {key}"}
        long = {"model": "tone", "input": "x", "lane": "batch", "params": {"seconds": 300, **STEADY}}
        for _ in range(SLOTS):
            async with http.post("/v1/jobs", json=long) as answer:
                assert answer.status == 202, await answer.text()
                job = (await answer.json())["id"]
            await until_state(http, "", job, "running")
        assert len(worker.events("job.started")) == SLOTS
        async with asyncio.timeout(30):
            while (await http.get("/v1/jobs", headers=headers)).status != 200:
                await asyncio.sleep(0.02)
        async with asyncio.timeout(PATIENCE_S):
            async with http.post(
                "/v1/audio/speech", json=speech(seconds=1, lane="interactive"), headers=headers
            ) as answer:
                await Body(answer).at_least(1)
