"""A receiver that does not respond delays its own events only."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bus.settings import BusSettings
from gateway.webhooks.concurrency import MAX_PER_HOST
from tests.support.programs import fleet_of
from tests.support.receiver import Receiver, receiving
from tests.support.waiting import eventually
from tests.support.web import ready


@pytest.fixture
async def hanging() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        receiver.gate.clear()
        yield receiver
        receiver.gate.set()


async def order(http: aiohttp.ClientSession, receiver: Receiver) -> str:
    webhook = {"url": f"{receiver.url}/hook", "events": ["accepted"]}
    body = {"model": "tone", "input": "x", "params": {"seconds": 0.1}, "webhook": webhook}
    async with http.post("/v1/jobs", json=body) as answer:
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["id"])


async def test_a_receiver_that_hangs_holds_a_few_slots_and_others_get_their_events(
    bus_settings: BusSettings, hanging: Receiver
) -> None:
    with fleet_of(bus_settings) as fleet:
        fleet.worker("w1", "tone", 4)
        gateway, url = fleet.gateway("--webhook-private")
        async with aiohttp.ClientSession(url) as http, receiving() as prompt:
            await ready(http, "")
            await asyncio.gather(*(order(http, hanging) for _ in range(5 * MAX_PER_HOST)))
            await eventually(lambda: len(hanging.paths) >= MAX_PER_HOST)
            job = await order(http, prompt)
            assert await prompt.types(job, ["job.accepted"], within_s=8) == ["job.accepted"]
            num_tries = len(hanging.paths)
            # A try that times out, after 10 s, allows one more.
            assert num_tries <= MAX_PER_HOST + len(gateway.events("webhook.failed"))
