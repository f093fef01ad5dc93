"""Equal requests: one run for those that meet in flight, its log for those that come later, at whichever gateway."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bus.settings import BusSettings
from tests.support.doors import SPEECH, gated, tone, until_state, wav_pcm
from tests.support.fleets import small_bus
from tests.support.programs import Fleet, Program, fleet_of
from tests.support.tone import tone_pcm
from tests.support.web import ready


@pytest.fixture(scope="module")
def settings(nats_url: str) -> BusSettings:
    return small_bus(nats_url)


@pytest.fixture(scope="module")
def stack(settings: BusSettings) -> Iterator[tuple[Fleet, Program, list[str]]]:
    """Fleet, worker, URLs of two gateways; every test of this module has texts of its own."""
    with fleet_of(settings) as fleet:
        worker = fleet.worker("w1", "tone", 4, "--max-fails", "1000")
        yield fleet, worker, [fleet.gateway()[1], fleet.gateway()[1]]


@pytest.fixture
def worker(stack: tuple[Fleet, Program, list[str]]) -> Program:
    return stack[1]


@pytest.fixture
def urls(stack: tuple[Fleet, Program, list[str]]) -> list[str]:
    return stack[2]


@pytest.fixture
async def http(urls: list[str]) -> AsyncIterator[aiohttp.ClientSession]:
    """Asks the first gateway, unless a whole address is given."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(urls[0], connector=connector) as http:
        for url in urls:
            await ready(http, url)
        yield http


def order(**params: Any) -> dict[str, Any]:
    """A request for PCM of a text that no other test requests."""
    return tone(input=uuid.uuid4().hex, response_format="pcm", params={"seconds": 0.5, **params})


def starts(worker: Program, job: str) -> list[str]:
    """Runs so far of a derived id, of all its generations."""
    begun = [event["job"] for event in worker.events("job.started")]
    return [name for name in begun if name.partition("-")[0] == job.partition("-")[0]]


class Answer:
    """One answer, read to its end."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.body = body
        self.how = response.headers.get("Antiphon-Cache")
        self.job = response.headers["Antiphon-Job"]


async def synthesize(http: aiohttp.ClientSession, body: dict[str, Any], url: str = "", control: str = "") -> Answer:
    headers = {"Cache-Control": control} if control else {}
    async with asyncio.timeout(40), http.post(f"{url}{SPEECH}", json=body, headers=headers) as response:
        return Answer(response, await response.read())


async def test_a_finished_equal_request_is_played_back_by_any_gateway_and_in_any_format(
    http: aiohttp.ClientSession, urls: list[str], worker: Program
) -> None:
    body = order()
    first = await synthesize(http, body)
    assert (first.how, first.body) == ("miss", tone_pcm(0.5))
    for url in urls:
        again = await synthesize(http, body, url)
        assert (again.how, again.job, again.body) == ("hit", first.job, tone_pcm(0.5))
        wav = await synthesize(http, {**body, "response_format": "wav"}, url)
        assert (wav.how, wav.job, wav_pcm(wav.body)) == ("hit", first.job, tone_pcm(0.5))
    assert starts(worker, first.job) == [first.job]


async def test_a_hundred_equal_requests_at_once_at_two_gateways_make_one_run(
    http: aiohttp.ClientSession, urls: list[str], worker: Program, tmp_path: Path
) -> None:
    body = order(**gated(tmp_path / "open", 1, seconds=1, block_ms=100))
    tasks = [asyncio.create_task(synthesize(http, body, urls[number % 2])) for number in range(100)]
    await asyncio.to_thread(worker.wait_for, "job.started", len(worker.events("job.started")) + 1)
    (tmp_path / "open").touch()
    answers = await asyncio.gather(*tasks)
    assert {answer.body == tone_pcm(1) for answer in answers} == {True}
    hows = [answer.how for answer in answers]
    assert (hows.count("miss"), hows.count("shared") + hows.count("hit")) == (1, 99)
    assert len(starts(worker, answers[0].job)) == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"input": "other"}, {"params": {"seconds": 0.25}}])
async def test_requests_with_different_audio_share_nothing(http: aiohttp.ClientSession, change: dict[str, Any]) -> None:
    body = order()
    first, other = (
        await synthesize(http, body),
        await synthesize(http, {**body, **change, "input": body["input"] + "."}),
    )
    third = await synthesize(http, {**body, **change})
    assert len({first.job, other.job, third.job}) == 3


async def test_a_request_for_a_fresh_run_gets_one_that_answers_later_requests(
    http: aiohttp.ClientSession, urls: list[str], worker: Program
) -> None:
    body = order()
    first = await synthesize(http, body)
    fresh = await synthesize(http, body, control="max-age=0, no-cache")
    assert (fresh.how, fresh.job, fresh.body) == ("miss", f"{first.job}-1", first.body)
    for url in urls:
        later = await synthesize(http, body, url)
        assert (later.how, later.job) == ("hit", fresh.job)
    assert len(starts(worker, first.job)) == 2


async def test_a_request_that_refuses_the_cache_neither_reads_nor_fills_it(http: aiohttp.ClientSession) -> None:
    body = order()
    alone = await synthesize(http, body, control="no-store")
    cached = await synthesize(http, body)
    again = await synthesize(http, body, control="No-Store")
    assert (alone.how, cached.how, again.how) == (None, "miss", None)
    assert len({alone.job, cached.job, again.job}) == 3


async def test_the_run_goes_on_until_its_last_listener_leaves_and_then_answers_no_request(
    http: aiohttp.ClientSession, urls: list[str], worker: Program, tmp_path: Path
) -> None:
    body = order(**gated(tmp_path / "open", 1, seconds=1, block_ms=100))
    async with asyncio.timeout(40):
        first = await http.post(SPEECH, json=body)
        second = await http.post(f"{urls[1]}{SPEECH}", json=body)
        third = await http.post(SPEECH, json=body)
        job = first.headers["Antiphon-Job"]
        assert {each.headers["Antiphon-Job"] for each in (second, third)} == {job}
        first.close()
        third.close()
        # Both gateways are synthesize whether anybody listens before a job is ended; the second one still says so.
        assert await second.content.readexactly(4800) == tone_pcm(0.1)
        async with http.get(f"/v1/jobs/{job}") as answer:
            assert (await answer.json())["state"] == "running"
        second.close()
        await until_state(http, job, "cancelled")
    (tmp_path / "open").touch()
    retried = await asyncio.gather(*(synthesize(http, body, urls[number % 2]) for number in range(6)))
    assert {answer.job for answer in retried} == {f"{job}-1"}
    assert {answer.body == tone_pcm(1) for answer in retried} == {True}
    assert len(starts(worker, job)) == 2


async def test_a_cancel_by_id_ends_it_for_all_and_the_next_request_makes_a_new_run(
    http: aiohttp.ClientSession, urls: list[str], tmp_path: Path
) -> None:
    body = order(**gated(tmp_path / "open", 0, seconds=0.2))
    before = [await _answers(http, url) for url in urls]
    tasks = [asyncio.create_task(synthesize(http, body, url)) for url in urls]
    job = await _waiting_job(http)
    async with asyncio.timeout(30):  # a request after the cancel gets a run of its own
        while [await _answers(http, url) for url in urls] != [count + 1 for count in before]:
            await asyncio.sleep(0.01)
    async with http.delete(f"/v1/jobs/{job}") as answer:
        assert (await answer.json())["state"] == "cancelled"
    assert {answer.status for answer in await asyncio.gather(*tasks)} == {409}
    (tmp_path / "open").touch()
    again = await synthesize(http, body, urls[1])
    assert (again.status, again.how, again.job) == (200, "miss", f"{job}-1")


async def test_a_failure_is_shared_in_flight_but_does_not_last(http: aiohttp.ClientSession, worker: Program) -> None:
    body = order(fault={"kind": "raise", "at_block": 0})
    first, second, third = [await synthesize(http, body) for _ in range(3)]
    assert [answer.status for answer in (first, second, third)] == [502] * 3
    assert (second.job, third.job) == (f"{first.job}-1", f"{first.job}-2")
    assert len(starts(worker, first.job)) == 3


async def test_health_shows_how_many_responses_needed_no_run(http: aiohttp.ClientSession, urls: list[str]) -> None:
    before = await _counts(http, urls[1])
    body = order()
    for _ in range(4):
        await synthesize(http, body, urls[1])
    after = await _counts(http, urls[1])
    assert [after[name] - before[name] for name in ("misses", "shared", "hits")] == [1, 0, 3]
    total = after["misses"] + after["shared"] + after["hits"]
    assert after["rate"] == pytest.approx(1 - after["misses"] / total, abs=1e-3)


async def _counts(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(f"{url}/health") as answer:
        return dict((await answer.json())["cache"])


async def _answers(http: aiohttp.ClientSession, url: str) -> int:
    """How many requests this gateway has found a run for."""
    counts = await _counts(http, url)
    return int(counts["misses"] + counts["shared"] + counts["hits"])


async def _waiting_job(http: aiohttp.ClientSession) -> str:
    """The newest job, once it runs."""
    async with asyncio.timeout(30):
        while True:
            async with http.get("/v1/jobs?limit=1") as answer:
                jobs = (await answer.json())["jobs"]
            if jobs and jobs[0]["state"] == "running":
                return str(jobs[0]["id"])
            await asyncio.sleep(0.01)
