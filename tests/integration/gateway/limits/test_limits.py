"""Limits of keys and addresses, held by gateways together: real processes, real keys."""

import asyncio
import itertools
import math
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support.fleets import small_bus
from tests.support.programs import Fleet, Program, fleet_of
from tests.support.web import ready, speech, until_state

SPEECH = "/v1/audio/speech"
LONG: dict[str, Any] = {"seconds": 600, "compute_ms": 100, "device": "own"}


@dataclass
class Stack:
    fleet: Fleet
    settings: BusSettings
    gateways: list[Program]
    urls: list[str]
    keys: Keys = field(repr=False)

    async def key(self, tenant: str = "acme", **limits: Any) -> dict[str, str]:
        """Headers of a new key with these limits, once every gateway knows it."""
        _, text = await self.keys.create(tenant, Limits(**limits))
        headers = {"Authorization": f"Bearer {text}"}
        async with asyncio.timeout(30), ClientSession() as http:
            for url in self.urls:
                while await asked(http.get(f"{url}/v1/jobs", headers=headers)) != 200:
                    await asyncio.sleep(0.02)
        return headers


@pytest.fixture(scope="module")
def running(nats_url: str) -> Iterator[tuple[Fleet, BusSettings, list[tuple[Program, str]]]]:
    settings = small_bus(nats_url)
    with fleet_of(settings) as fleet:
        worker = fleet.worker("w1", "tone", 8, wait=False)
        gateways = [fleet.gateway(wait=False)[0] for _ in range(3)]
        worker.wait_for("worker.ready")
        yield fleet, settings, [(each, str(each.wait_for("gateway.ready")["url"])) for each in gateways]


@pytest.fixture
async def stack(running: tuple[Fleet, BusSettings, list[tuple[Program, str]]]) -> AsyncIterator[Stack]:
    fleet, settings, gateways = running
    async with open_bus(settings, "test") as bus, ClientSession() as http:
        for program, url in gateways:
            await ready(http, url)
            await asyncio.to_thread(program.wait_for, "usage.gateway_joined", 2)
        yield Stack(fleet, settings, [each for each, _ in gateways], [url for _, url in gateways], Keys(bus))


def job(seconds: float = 0.02, **fields: Any) -> dict[str, Any]:
    return {"model": "tone", "input": "x", "params": {"seconds": seconds}, **fields}


async def asked(request: AbstractAsyncContextManager[ClientResponse]) -> int:
    """The status of an answer that is read to its end."""
    async with request as answer:
        await answer.read()
        return answer.status


async def test_a_request_too_many_is_told_which_limit_it_met_what_is_left_and_when_to_retry(stack: Stack) -> None:
    quick = await stack.key(requests_per_s=2.0, burst=2)
    async with ClientSession(stack.urls[0], headers=quick) as http, http.post("/v1/jobs", json=job()) as answer:
        assert answer.status == 202
        told = [answer.headers[f"x-ratelimit-{each}-requests"] for each in ("limit", "remaining", "reset")]
        assert told == ["2", "1", "500ms"]
        assert answer.headers["RateLimit-Policy"] == '"requests";q=2;w=1'
        assert answer.headers["RateLimit"] == '"requests";r=1;t=1'
    slow = await stack.key(requests_per_s=0.02, burst=2)  # nobody takes so long to ask three times
    async with ClientSession(stack.urls[0], headers=slow) as http:
        assert [await asked(http.post("/v1/jobs", json=job())) for _ in range(2)] == [202, 202]
        async with http.post("/v1/jobs", json=job()) as answer:
            told = await answer.json()
        assert (told["code"], told["retryable"]) == ("too_many", True)
        assert (told["limit"], told["scope"], told["allowed"], told["left"]) == ("requests_per_s", "key", 0.02, 0)
        assert 0 < told["retry_after_s"] <= 50
        assert int(answer.headers["Retry-After"]) == math.ceil(told["retry_after_s"])
        assert int(answer.headers["retry-after-ms"]) == pytest.approx(told["retry_after_s"] * 1000, abs=1.1)
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"


async def test_what_is_only_asked_counts_against_nothing(stack: Stack) -> None:
    key = await stack.key(requests_per_s=0.01, burst=1)
    async with ClientSession(stack.urls[0], headers=key) as http:
        for _ in range(5):
            assert await asked(http.get("/v1/jobs")) == 200
            assert await asked(http.post("/v1/nothing")) == 404
        assert await asked(http.post("/v1/jobs", json=job())) == 202
        assert await asked(http.post(SPEECH, json=speech())) == 429


async def test_a_burst_spent_at_one_gateway_is_spent_at_the_others(stack: Stack) -> None:
    key = await stack.key(requests_per_s=0.01, burst=20)
    async with ClientSession(headers=key) as http:
        assert {await asked(http.post(f"{stack.urls[0]}/v1/jobs", json=job())) for _ in range(20)} == {202}
        async with asyncio.timeout(30):
            granted = 0
            for url in stack.urls[1:]:
                while await asked(http.post(f"{url}/v1/jobs", json=job())) != 429:
                    granted += 1
                    await asyncio.sleep(0.1)
        assert granted < 20, "none of the others has given a burst of its own, though it may hear of this one late"


async def test_concurrent_jobs_count_at_every_gateway_until_they_end(stack: Stack) -> None:
    key = await stack.key(concurrent_jobs=2)
    async with ClientSession(headers=key) as http:
        jobs = []
        # The third gateway has read the queue by then: of both it hears by the others' word alone.
        async with http.post(f"{stack.urls[2]}/v1/jobs", json=job()) as answer:
            await until_state(http, stack.urls[2], (await answer.json())["id"], "done")
        for index in range(2):
            async with http.post(f"{stack.urls[index]}/v1/jobs", json=job(params=LONG)) as answer:
                assert answer.status == 202
                jobs.append((await answer.json())["id"])
        async with asyncio.timeout(20):
            while await asked(http.post(f"{stack.urls[2]}/v1/jobs", json=job())) == 202:  # it has not heard of both yet
                await asyncio.sleep(0.05)
        async with http.post(f"{stack.urls[2]}/v1/jobs", json=job()) as answer:
            told = await answer.json()
        assert (told["limit"], told["allowed"], told["left"]) == ("concurrent_jobs", 2, 0)
        assert answer.headers["RateLimit-Policy"] == '"concurrent-requests";q=2;qu="concurrent-requests"'
        # Asked again under its own id a job that is there makes no other one.
        async with http.put(f"{stack.urls[2]}/v1/jobs/{jobs[0]}", json=job(params=LONG)) as answer:
            assert answer.status == 200
        many = [http.post(f"{stack.urls[2]}/v1/jobs", json=job()) for _ in range(100)]
        assert set(await asyncio.gather(*map(asked, many))) == {429}
        await http.delete(f"{stack.urls[1]}/v1/jobs/{jobs[0]}")
        async with http.post(f"{stack.urls[2]}/v1/jobs", json=job(params=LONG)) as answer:
            assert answer.status == 202, "it ended, so there is room at once, wherever it was accepted"
            jobs.append((await answer.json())["id"])
        # The same for a log that has ended, which nobody counts any more: at the limit, and no work.
        assert await asked(http.put(f"{stack.urls[2]}/v1/jobs/{jobs[0]}", json=job(params=LONG))) == 200
        for each in jobs:
            await http.delete(f"{stack.urls[0]}/v1/jobs/{each}")


async def test_short_jobs_one_after_another_never_meet_the_limit_of_one_at_a_time(stack: Stack) -> None:
    key = await stack.key(concurrent_jobs=1)
    async with ClientSession(headers=key) as http:
        for index in range(12):
            url = stack.urls[index % 3]
            async with http.post(f"{url}{SPEECH}", json=speech(seconds=0.02, seed=index)) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()


async def test_a_stream_left_in_the_middle_gives_its_place_back(stack: Stack) -> None:
    key = await stack.key(concurrent_jobs=1)
    async with ClientSession(headers=key) as http:
        answer = await http.post(f"{stack.urls[0]}{SPEECH}", json=speech(**LONG))
        await answer.content.readexactly(100)
        assert await asked(http.post(f"{stack.urls[0]}{SPEECH}", json=speech(seed=1))) == 429
        answer.close()
        async with asyncio.timeout(20):
            while await asked(http.post(f"{stack.urls[0]}{SPEECH}", json=speech(seed=2))) != 200:
                await asyncio.sleep(0.05)


async def test_audio_of_a_day_is_charged_once_and_remembered_by_gateways_that_come_later(stack: Stack) -> None:
    key = await stack.key(audio_s_per_day=3.0)
    async with ClientSession(headers=key) as http:
        for index in range(2):
            async with http.post(f"{stack.urls[index]}{SPEECH}", json=speech(seconds=1.5, seed=index)) as answer:
                assert answer.status == 200
                await answer.read()
        async with asyncio.timeout(20):
            for seed in itertools.count(2):  # an equal one would be played again
                if await asked(http.post(f"{stack.urls[2]}{SPEECH}", json=speech(seconds=0.01, seed=seed))) == 429:
                    break
                await asyncio.sleep(0.05)
        newcomer, url = stack.fleet.gateway()
        await ready(http, url)
        async with http.post(f"{url}{SPEECH}", json=speech(seed=9)) as answer:
            assert answer.status == 429
            assert 0 < int(answer.headers["Retry-After"]) <= 86_400
        # What is there already is played again, for nothing.
        async with http.post(f"{url}{SPEECH}", json=speech(seconds=1.5, seed=0)) as answer:
            assert answer.status == 200
            assert len(await answer.read()) == 2 * 36_000
        newcomer.stop()


@pytest.mark.slow
async def test_a_job_that_nobody_listens_to_is_charged_too_also_when_its_gateway_is_gone(stack: Stack) -> None:
    key = await stack.key(audio_s_per_day=1.0, concurrent_jobs=1)
    gateway, url = stack.fleet.gateway()
    async with ClientSession(headers=key) as http:

        async def refused_for() -> str:
            async with http.post(f"{stack.urls[0]}/v1/jobs", json=job(0.001)) as answer:
                return "" if answer.status == 202 else str((await answer.json())["limit"])

        await ready(http, url)
        body = job(params={"seconds": 1.2, "compute_ms": 50, "device": "own"})
        async with http.post(f"{url}/v1/jobs", json=body) as answer:
            job_id = (await answer.json())["id"]
        async with asyncio.timeout(20):
            while await refused_for() != "concurrent_jobs":  # until it has heard of the job
                await asyncio.sleep(0.02)
        gateway.kill()
        await until_state(http, stack.urls[0], job_id, "done")
        async with asyncio.timeout(20):
            while await refused_for() != "audio_s_per_day":
                await asyncio.sleep(0.2)


async def test_a_bus_users_job_with_a_strangers_key_in_it_counts_against_nobody(stack: Stack) -> None:
    key, evil = await stack.key(concurrent_jobs=1), await stack.key("evil", concurrent_jobs=9)
    key_id = key["Authorization"].split("-")[1]
    async with open_bus(stack.settings, "test") as bus, ClientSession(headers=key) as http:
        body = b'{"input":"x","id":"forged","client":{"key":"%s"}}' % key_id.encode()
        await bus.js.publish(bus.subjects.job("nobody", "v1", "standard", "evil"), body)
        # At the first job of a tenant with limits a gateway reads all that the tenant has in the queue.
        assert await asked(http.post(f"{stack.urls[0]}/v1/jobs", json=job(), headers=evil)) == 202
        async with http.post(f"{stack.urls[0]}{SPEECH}", json=speech(seconds=0.02)) as answer:
            assert answer.status == 200


@pytest.mark.slow
async def test_nothing_is_forgotten_when_all_gateways_start_anew(bus_settings: BusSettings, fleet: Fleet) -> None:
    fleet.worker("w1", "tone", 4)
    first, url = fleet.gateway()
    async with open_bus(bus_settings, "test") as bus, ClientSession() as http:
        alone = Stack(fleet, bus_settings, [first], [url], Keys(bus))
        await ready(http, url)
        narrow, spent = await alone.key(concurrent_jobs=1), await alone.key(audio_s_per_day=0.5)
        assert await asked(http.post(f"{url}/v1/jobs", json=job(params=LONG), headers=narrow)) == 202
        assert await asked(http.post(f"{url}{SPEECH}", json=speech(seconds=1), headers=spent)) == 200
        assert first.stop() == 0
        _, url = fleet.gateway()
        await ready(http, url)
        for key in (narrow, spent):
            async with asyncio.timeout(20):
                while (status := await asked(http.post(f"{url}/v1/jobs", json=job(), headers=key))) == 401:
                    await asyncio.sleep(0.02)
            assert status == 429


async def drive(
    stack: Stack, keys: list[dict[str, str]], rates: list[float], window_s: float
) -> tuple[list[float], bool]:
    """Ask every gateway as often as is allowed in all. What was granted per second, by key, and whether more was answered
    in every half second than is allowed: else it was the machine that set the rate.
    """
    start_s = time.monotonic() + 3.0  # until then what may come at once is spent
    slots = int(2 * window_s)
    granted, answered = [[0] * slots for _ in keys], [0] * slots

    def now() -> int:
        return math.floor(2 * (time.monotonic() - start_s))

    async def ask(index: int, url: str, http: ClientSession) -> None:
        rng = random.Random(index)
        while now() < slots:
            status = await asked(http.post(f"{url}/v1/jobs", json=job(), headers=keys[index]))
            assert status in {202, 429}
            if 0 <= (slot := now()) < slots:
                answered[slot] += 1
                granted[index][slot] += status == 202
            await asyncio.sleep(rng.uniform(0.5, 1.5) / rates[index])

    async with ClientSession() as http, asyncio.TaskGroup() as tasks:
        for index in range(len(keys)):
            for url in stack.urls:
                tasks.create_task(ask(index, url, http))
    return [sum(times) / window_s for times in granted], min(answered) > sum(rates) / 2


@pytest.mark.slow
async def test_ten_keys_at_three_gateways_get_what_was_set_within_ten_percent(stack: Stack) -> None:
    # A burst of half a second: little in the window, and no short pause of a busy machine is lost.
    rates = [6.0 + index for index in range(10)]
    keys = [await stack.key(requests_per_s=rate, burst=int(rate / 2)) for rate in rates]
    for _ in range(8):  # every half second of a window must be one of enough requests
        observed, is_limited = await drive(stack, keys, rates, 10.0)
        shares = [seen / rate for seen, rate in zip(observed, rates, strict=True)]
        print("\nobserved/set:", " ".join(f"{r:g}/s {s:.3f}" for r, s in zip(rates, shares, strict=True)), is_limited)
        assert max(shares) < 1.1
        if is_limited:
            break
    assert is_limited, "this machine is too busy to ask more than is allowed"
    assert shares == pytest.approx([1.0] * 10, abs=0.1)
