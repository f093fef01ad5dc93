"""A receiver who hangs keeps its own events waiting, and nobody else's."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bus.settings import BusSettings
from gateway.webhooks.concurrency import MOST_AT_ONCE, Receivers
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
    webhook = {"url": f"{receiver.url}/told", "events": ["accepted"]}
    body = {"model": "tone", "input": "x", "params": {"seconds": 0.1}, "webhook": webhook}
    async with http.post("/v1/jobs", json=body) as answer:
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["id"])


async def test_who_hangs_holds_so_many_tries_and_others_are_told_meanwhile(
    bus_settings: BusSettings, hanging: Receiver
) -> None:
    with fleet_of(bus_settings) as fleet:
        fleet.worker("w1", "tone", 4)
        gateway, url = fleet.gateway("--webhook-private")
        async with aiohttp.ClientSession(url) as http, receiving() as prompt:
            await ready(http, "")
            await asyncio.gather(*(order(http, hanging) for _ in range(5 * MOST_AT_ONCE)))
            await eventually(lambda: len(hanging.paths) >= MOST_AT_ONCE)
            job = await order(http, prompt)
            assert await prompt.types(job, ["job.accepted"], within_s=8) == ["job.accepted"]
            num_tries = len(hanging.paths)
            # A try that is given up, after 10 s, makes room for one more.
            assert num_tries <= MOST_AT_ONCE + len(gateway.events("webhook.failed"))


def test_a_receiver_who_is_slow_is_asked_again_later_than_one_who_is_busy() -> None:
    now = [0.0]
    receivers = Receivers(lambda: now[0])
    with receivers.telling("a:80"):
        assert receivers.wait_s("a:80") is None
        tries = [receivers.telling("a:80") for _ in range(MOST_AT_ONCE - 1)]
        for each in tries:
            each.__enter__()
        soon = receivers.wait_s("a:80")
        now[0] = 2.0
        later = receivers.wait_s("a:80")
        assert soon is not None
        assert later is not None
        assert soon < later
        assert receivers.wait_s("b:80") is None
        tries[0].__exit__(None, None, None)
        assert receivers.wait_s("a:80") is None
