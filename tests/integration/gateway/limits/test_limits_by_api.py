"""Limits at each API: sockets, polls, OpenAI's client, the bus; and limits of addresses behind a proxy."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession
from nats.aio.client import Client
from openai import AsyncOpenAI

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support.fleets import small_bus
from tests.support.limits import job, status_of
from tests.support.nats_asking import job as nats_job
from tests.support.nats_cli import nats_req
from tests.support.openai_client import plays
from tests.support.programs import fleet_of
from tests.support.sockets import connected, tone
from tests.support.tone import tone_pcm
from tests.support.web import ready

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(nats_url: str) -> Iterator[tuple[BusSettings, str, str]]:
    """Settings; URL; URL of a gateway that limits addresses and believes proxies on loopback."""
    settings = small_bus(nats_url)
    with fleet_of(settings) as fleet:
        worker = fleet.worker("w1", "tone", 4, wait=False)
        plain, _ = fleet.gateway(wait=False)
        strict, _ = fleet.gateway(
            *("--address-requests-per-s", "0.01", "--address-burst", "2", "--trusted-proxies", "127.0.0.0/8"),
            wait=False,
        )
        worker.wait_for("worker.ready")
        for program in (plain, strict):
            program.wait_for("submit.ready")
        urls = [str(program.wait_for("gateway.ready")["url"]) for program in (plain, strict)]
        yield settings, urls[0], urls[1]


@contextlib.asynccontextmanager
async def caller(stack: tuple[BusSettings, str, str], **limits: Any) -> AsyncIterator[tuple[ClientSession, str]]:
    """A client with a key of these limits, and the key, once both gateways know it, and a worker."""
    settings, *urls = stack
    async with open_bus(settings, "test") as bus:
        _, key = await Keys(bus).create("acme", Limits(**limits))
    async with ClientSession(urls[0], headers={"Authorization": f"Bearer {key}"}) as http, asyncio.timeout(60):
        for url in urls:
            await ready(http, url)
            while True:
                async with http.get(f"{url}/v1/jobs") as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.02)
        yield http, key


async def test_an_utterance_on_a_socket_is_one_request_however_many_sentences_it_has(
    stack: tuple[BusSettings, str, str],
) -> None:
    async with (
        caller(stack, requests_per_s=0.01, burst=2) as (http, _),
        connected(http, **tone(seconds=0.05)) as client,
    ):
        for _ in range(2):
            await client.send_text("One. ", "Two. ", "Three.")
            received = await client.receive_until("session.done", 30)
            assert received.of_type("error") == []
            assert received.pcm == [tone_pcm(0.05)] * 3
        await client.send_text("Four.", done=False)
        refused = await client.receive_json()
        assert (refused["type"], refused["code"]) == ("error", "too_many")


async def test_on_a_socket_the_next_sentence_waits_for_its_turn_where_one_job_is_allowed_at_a_time(
    stack: tuple[BusSettings, str, str],
) -> None:
    async with (
        caller(stack, concurrent_jobs=1) as (http, _),
        connected(http, **tone(seconds=0.5, block_ms=50, compute_ms=50, device="own")) as client,
    ):
        await client.send_text("One. ", "Two. ", "Three.")
        received = await client.receive_until("session.done", 30)
    assert received.of_type("error") == []
    assert received.pcm == [tone_pcm(0.5)] * 3


async def test_polling_a_task_counts_against_nothing(stack: tuple[BusSettings, str, str]) -> None:
    async with caller(stack, requests_per_s=0.01, burst=1) as (http, _):
        for _ in range(4):
            async with http.post("/query_result", json={"task_id_list": ["nobodys"]}) as answer:
                assert answer.status == 200, await answer.text()
        async with http.post("/v1/jobs", json={"model": "tone", "input": "x"}) as answer:
            assert answer.status == 202


#: Three jobs in one request: its path and its body.
THREE_JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "lines": ("/v1/jobs:batch", {"data": b'{"model":"tone","input":"x","params":{"seconds":0.02}}\n' * 3}),
    "items": (
        "/v1/audio/speech/batch",
        {"json": {"model": "tone", "items": [{"input": text} for text in "abc"], "params": {"seconds": 0.02}}},
    ),
    "task": (
        "/release_task",
        {"json": {"model": "tone", "prompt": "x", "batch_size": 3, "params": {"seconds": 0.02}}},
    ),
}


@pytest.mark.parametrize("name", THREE_JOBS)
async def test_a_request_that_makes_several_jobs_counts_as_so_many(
    stack: tuple[BusSettings, str, str], name: str
) -> None:
    path, body = THREE_JOBS[name]
    async with caller(stack, requests_per_s=0.01, burst=4) as (http, _):
        async with http.post(path, **body) as answer:
            assert answer.status == 200, await answer.text()
        statuses = [await status_of(http.post("/v1/jobs", json=job())) for _ in range(2)]
        assert statuses == [202, 429]


@pytest.mark.parametrize("name", THREE_JOBS)
async def test_jobs_of_one_request_wait_for_a_limit_that_they_exceed_together(
    stack: tuple[BusSettings, str, str], name: str
) -> None:
    path, body = THREE_JOBS[name]
    async with caller(stack, requests_per_s=4, burst=1) as (http, _):
        began_at = time.monotonic()
        assert await status_of(http.post(path, **body)) == 200
        assert time.monotonic() - began_at >= 0.49, "two waits of a quarter of a second"


async def test_a_download_counts_as_a_request_if_it_needs_an_encoder(stack: tuple[BusSettings, str, str]) -> None:
    async with caller(stack, requests_per_s=0.01, burst=4) as (http, _):
        async with http.post("/v1/jobs", json=job(seconds=1.0)) as answer:
            path = f"/v1/jobs/{(await answer.json())['id']}/audio"
        assert await status_of(http.get(path)) == 200  # waits until the job is done

        async def statuses(*queries: str) -> list[int]:
            return [await status_of(http.get(f"{path}?{query}")) for query in queries]

        assert await statuses("format=wav", "format=pcm", "from_frame=9") == [200] * 3, "as it is in the log"
        assert await statuses("format=mp3", "rate=8000", "format=flac", "speed=2") == [200, 200, 200, 429]
        assert await statuses("format=mp3", "format=flac") == [200, 200], "from memory"


async def test_openais_client_waits_for_the_retry_after_and_then_gets_its_audio(
    stack: tuple[BusSettings, str, str],
) -> None:
    async with (
        caller(stack, requests_per_s=2.0, burst=1) as (_, key),
        AsyncOpenAI(base_url=f"{stack[1]}/v1", api_key=key, max_retries=2, timeout=20) as client,
    ):
        began_at = time.monotonic()
        for seed in range(3):
            arguments = plays(seconds=0.05)
            arguments["extra_body"]["seed"] = seed
            answer = await client.audio.speech.create(**arguments, response_format="pcm")
            assert answer.content == tone_pcm(0.05)
        took_s = time.monotonic() - began_at
    assert took_s >= 0.99, "two waits of half a second"


async def test_a_key_over_nats_meets_the_same_limit(stack: tuple[BusSettings, str, str]) -> None:
    settings = stack[0]
    async with caller(stack, requests_per_s=0.01, burst=1) as (http, key):
        async with http.post("/v1/jobs", json={"model": "tone", "input": "x"}) as answer:
            assert answer.status == 202
        client = Client()
        await client.connect(settings.nats)
        while True:  # whichever gateway answers: the other one has the news 100 ms later
            headers = {"Authorization": f"Bearer {key}"}
            answered = await nats_req(client, f"{settings.root}.submit", nats_job(seconds=0.01), headers=headers)
            if answered.json(0).get("code"):
                break
        await client.close()
    problem = answered.json(0)
    assert (problem["code"], problem["status"], problem["limit"], problem["left"]) == (
        "too_many",
        429,
        "requests_per_s",
        0,
    )
    assert (answered.replies[0].headers or {})["Nats-Service-Error-Code"] == "429"


async def test_addresses_behind_a_trusted_proxy_have_a_limit_each(stack: tuple[BusSettings, str, str]) -> None:
    async with caller(stack) as (http, _):

        async def status_of(*forwarded: str) -> tuple[int, str]:
            headers = {"X-Forwarded-For": ", ".join(forwarded)} if forwarded else {}
            async with http.post(
                f"{stack[2]}/v1/jobs", json={"model": "tone", "input": "x"}, headers=headers
            ) as answer:
                return answer.status, "" if answer.status == 202 else str((await answer.json())["scope"])

        assert [await status_of("203.0.113.7") for _ in range(3)] == [(202, ""), (202, ""), (429, "address")]
        assert await status_of("203.0.113.8") == (202, "")
        assert await status_of("198.51.100.1", "203.0.113.7") == (429, "address"), "a client may write anything there"
        assert [await status_of("2001:db8::1"), await status_of("2001:db8::2"), await status_of("2001:db8::3")][2][
            0
        ] == 429
        assert await status_of() == (202, "")
