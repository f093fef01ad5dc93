"""Limits of keys and addresses, held by gateways together: real processes, real keys."""

import asyncio
import itertools
import math
from typing import Any

import pytest
from aiohttp import ClientSession

from bus.access.keys import Keys
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support.limits import Stack, job, status_of
from tests.support.programs import Fleet
from tests.support.web import ready, speech, until_state

SPEECH = "/v1/audio/speech"
LONG: dict[str, Any] = {"seconds": 600, "compute_ms": 100, "device": "own"}


async def test_a_refusal_names_the_limit_the_rest_and_when_to_retry(stack: Stack) -> None:
    quick = await stack.key(requests_per_s=2.0, burst=2)
    async with ClientSession(stack.urls[0], headers=quick) as http, http.post("/v1/jobs", json=job()) as answer:
        assert answer.status == 202
        headers = [answer.headers[f"x-ratelimit-{each}-requests"] for each in ("limit", "remaining", "reset")]
        assert headers == ["2", "1", "500ms"]
        assert answer.headers["RateLimit-Policy"] == '"requests";q=2;w=1'
        assert answer.headers["RateLimit"] == '"requests";r=1;t=1'
    slow = await stack.key(requests_per_s=0.02, burst=2)  # slower than three requests on any machine
    async with ClientSession(stack.urls[0], headers=slow) as http:
        assert [await status_of(http.post("/v1/jobs", json=job())) for _ in range(2)] == [202, 202]
        async with http.post("/v1/jobs", json=job()) as answer:
            problem = await answer.json()
        assert (problem["code"], problem["retryable"]) == ("too_many", True)
        assert (problem["limit"], problem["scope"], problem["allowed"], problem["left"]) == (
            "requests_per_s",
            "key",
            0.02,
            0,
        )
        assert 0 < problem["retry_after_s"] <= 50
        assert int(answer.headers["Retry-After"]) == math.ceil(problem["retry_after_s"])
        assert int(answer.headers["retry-after-ms"]) == pytest.approx(problem["retry_after_s"] * 1000, abs=1.1)
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    reached = await asyncio.to_thread(stack.gateways[0].wait_for, "limit.reached", within_s=30)
    refused = [line for line in stack.gateways[0].events("http.refused") if line["status"] == 429]
    # The key's id alone does not say whose line it is.
    assert {line["tenant"] for line in (reached, *refused)} == {"acme"}


async def test_requests_that_make_no_work_count_against_no_limit(stack: Stack) -> None:
    key = await stack.key(requests_per_s=0.01, burst=1)
    async with ClientSession(stack.urls[0], headers=key) as http:
        for _ in range(5):
            assert await status_of(http.get("/v1/jobs")) == 200
            assert await status_of(http.post("/v1/nothing")) == 404
        assert await status_of(http.post("/v1/jobs", json=job())) == 202
        assert await status_of(http.post(SPEECH, json=speech())) == 429


async def test_a_burst_spent_at_one_gateway_is_spent_at_the_others(stack: Stack) -> None:
    key = await stack.key(requests_per_s=0.01, burst=20)
    async with ClientSession(headers=key) as http:
        assert {await status_of(http.post(f"{stack.urls[0]}/v1/jobs", json=job())) for _ in range(20)} == {202}
        async with asyncio.timeout(30):
            granted = 0
            for url in stack.urls[1:]:
                while await status_of(http.post(f"{url}/v1/jobs", json=job())) != 429:
                    granted += 1
                    await asyncio.sleep(0.1)
        assert granted < 20, (
            "none of the others has given a burst of its own, though the report of this one may arrive late"
        )


async def test_concurrent_jobs_count_at_every_gateway_until_they_end(stack: Stack) -> None:
    key = await stack.key(concurrent_jobs=2)
    async with ClientSession(headers=key) as http:
        jobs = []
        # The third gateway has read the queue by then: it knows both jobs from the others' reports only.
        async with http.post(f"{stack.urls[2]}/v1/jobs", json=job()) as answer:
            await until_state(http, stack.urls[2], (await answer.json())["id"], "done")
        for index in range(2):
            async with http.post(f"{stack.urls[index]}/v1/jobs", json=job(params=LONG)) as answer:
                assert answer.status == 202
                jobs.append((await answer.json())["id"])
        async with asyncio.timeout(20):
            while (
                await status_of(http.post(f"{stack.urls[2]}/v1/jobs", json=job())) == 202
            ):  # it does not know both yet
                await asyncio.sleep(0.05)
        async with http.post(f"{stack.urls[2]}/v1/jobs", json=job()) as answer:
            problem = await answer.json()
        assert (problem["limit"], problem["allowed"], problem["left"]) == ("concurrent_jobs", 2, 0)
        assert answer.headers["RateLimit-Policy"] == '"concurrent-requests";q=2;qu="concurrent-requests"'
        # A request under the id of an existing job makes no other job.
        async with http.put(f"{stack.urls[2]}/v1/jobs/{jobs[0]}", json=job(params=LONG)) as answer:
            assert answer.status == 200
        many = [http.post(f"{stack.urls[2]}/v1/jobs", json=job()) for _ in range(100)]
        assert set(await asyncio.gather(*map(status_of, many))) == {429}
        await http.delete(f"{stack.urls[1]}/v1/jobs/{jobs[0]}")
        async with http.post(f"{stack.urls[2]}/v1/jobs", json=job(params=LONG)) as answer:
            assert answer.status == 202, "it ended, so there is room at once, wherever it was accepted"
            jobs.append((await answer.json())["id"])
        # The same for a job that has ended, which counts no longer: it needs no place.
        assert await status_of(http.put(f"{stack.urls[2]}/v1/jobs/{jobs[0]}", json=job(params=LONG))) == 200
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
        assert await status_of(http.post(f"{stack.urls[0]}{SPEECH}", json=speech(seed=1))) == 429
        answer.close()
        async with asyncio.timeout(20):
            while await status_of(http.post(f"{stack.urls[0]}{SPEECH}", json=speech(seed=2))) != 200:
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
                if await status_of(http.post(f"{stack.urls[2]}{SPEECH}", json=speech(seconds=0.01, seed=seed))) == 429:
                    break
                await asyncio.sleep(0.05)
        newcomer, url = stack.fleet.gateway()
        await ready(http, url)
        async with http.post(f"{url}{SPEECH}", json=speech(seed=9)) as answer:
            assert answer.status == 429
            assert 0 < int(answer.headers["Retry-After"]) <= 86_400
        # A cached response is not charged.
        async with http.post(f"{url}{SPEECH}", json=speech(seconds=1.5, seed=0)) as answer:
            assert answer.status == 200
            assert len(await answer.read()) == 2 * 36_000
        newcomer.stop()


@pytest.mark.slow
async def test_a_job_without_listeners_is_charged_also_when_its_gateway_has_died(stack: Stack) -> None:
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
            while await refused_for() != "concurrent_jobs":  # until it knows the job
                await asyncio.sleep(0.02)
        gateway.kill()
        await until_state(http, stack.urls[0], job_id, "done")
        async with asyncio.timeout(20):
            while await refused_for() != "audio_s_per_day":
                await asyncio.sleep(0.2)


async def test_a_bus_users_job_with_another_tenants_key_counts_for_no_account(stack: Stack) -> None:
    key, evil = await stack.key(concurrent_jobs=1), await stack.key("evil", concurrent_jobs=9)
    key_id = key["Authorization"].split("-")[1]
    async with open_bus(stack.settings, "test") as bus, ClientSession(headers=key) as http:
        body = b'{"input":"x","id":"forged","client":{"key":"%s"}}' % key_id.encode()
        await bus.js.publish(bus.subjects.job("unknown", "v1", "standard", "evil"), body)
        # At the first job of a tenant with limits a gateway reads all that the tenant has in the queue.
        assert await status_of(http.post(f"{stack.urls[0]}/v1/jobs", json=job(), headers=evil)) == 202
        async with http.post(f"{stack.urls[0]}{SPEECH}", json=speech(seconds=0.02)) as answer:
            assert answer.status == 200


@pytest.mark.slow
async def test_limits_hold_after_a_restart_of_all_gateways(bus_settings: BusSettings, fleet: Fleet) -> None:
    fleet.worker("w1", "tone", 4)
    first, url = fleet.gateway()
    async with open_bus(bus_settings, "test") as bus, ClientSession() as http:
        alone = Stack(fleet, bus_settings, [first], [url], Keys(bus))
        await ready(http, url)
        narrow, spent = await alone.key(concurrent_jobs=1), await alone.key(audio_s_per_day=0.5)
        assert await status_of(http.post(f"{url}/v1/jobs", json=job(params=LONG), headers=narrow)) == 202
        assert await status_of(http.post(f"{url}{SPEECH}", json=speech(seconds=1), headers=spent)) == 200
        assert first.stop() == 0
        _, url = fleet.gateway()
        await ready(http, url)
        for key in (narrow, spent):
            async with asyncio.timeout(20):
                while (status := await status_of(http.post(f"{url}/v1/jobs", json=job(), headers=key))) == 401:
                    await asyncio.sleep(0.02)
            assert status == 429
