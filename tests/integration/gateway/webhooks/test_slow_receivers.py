"""A receiver that does not respond delays its own events only."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from gateway.webhooks.concurrency import MAX_PER_HOST, MAX_TRIES
from tests.support.limits import status_of
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


async def order(http: aiohttp.ClientSession, receiver: Receiver, host: str = "", key: str = "") -> str:
    """A job with a webhook; its id. `host`: a name or an address of the receiver, `key`: the tenant's."""
    url = URL(receiver.url)
    webhook = {"url": str((url.with_host(host) if host else url) / "hook"), "events": ["accepted"]}
    body = {"model": "tone", "input": "x", "params": {"seconds": 0.1}, "webhook": webhook}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with http.post("/v1/jobs", json=body, headers=headers) as answer:
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


async def test_many_receivers_of_one_tenant_that_hang_delay_no_event_of_another(bus_settings: BusSettings) -> None:
    with fleet_of(bus_settings) as fleet:
        fleet.worker("w1", "tone", 4)
        gateway, url = fleet.gateway("--webhook-private", "--anonymous")
        async with (
            open_bus(bus_settings, "test") as bus,
            aiohttp.ClientSession(url) as http,
            receiving("0.0.0.0") as hanging,
            receiving() as prompt,
        ):
            hanging.gate.clear()
            await ready(http, "")
            flood, victim = [(await Keys(bus).create(tenant, Limits()))[1] for tenant in ("flood", "victim")]
            for key in (flood, victim):
                async with asyncio.timeout(30):
                    while await status_of(http.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})) != 200:
                        await asyncio.sleep(0.02)
            hosts = [f"127.0.{number // 250 + 1}.{number % 250 + 1}" for number in range(300)]
            await asyncio.gather(*(order(http, hanging, host, flood) for host in hosts))
            await eventually(lambda: len(hanging.paths) > MAX_TRIES // 2)
            job = await order(http, prompt, key=victim)
            assert await prompt.types(job, ["job.accepted"]) == ["job.accepted"]
            assert gateway.events("webhook.failed") == [], "no try had to time out for it"
            hanging.gate.set()
