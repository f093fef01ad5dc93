"""The native API against the real programs: accept, show, list, listen, cancel; two gateways; a gateway that goes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support import fleets
from tests.support.doors import (
    SPEECH,
    STEADY,
    Events,
    accepted,
    gated,
    state_of,
    tone,
    until_state,
    wav_head_bytes,
    wav_pcm,
)
from tests.support.fleets import Stack
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm
from tests.support.web import ready

#: One slot.
stack = fleets.stack("tone", 1)
http = fleets.http()


@pytest.fixture
def own(bus_settings: BusSettings) -> Iterator[Stack]:
    """The same for one test: it counts all jobs, or ends a program."""
    with fleets.stack_of(bus_settings, "tone", 1) as stack:
        yield stack


@pytest.fixture
async def own_http(own: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    async with fleets.asking(own.url) as http:
        yield http


async def test_a_job_is_accepted_runs_without_listeners_and_is_shown_whole(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/jobs", json=tone(params={"seconds": 1.5})) as answer:
        body = await answer.json()
        assert (answer.status, body["state"]) == (202, "queued")
        assert answer.headers["Location"] == body["links"]["self"] == f"/v1/jobs/{body['id']}"
        assert answer.headers["Antiphon-Job"] == body["id"]
    shown = await until_state(http, body["id"], "done")
    assert (shown["frames"], shown["seconds"], shown["worker"], shown["attempts"]) == (36_000, 1.5, "w1", 1)
    assert shown["lane"] == "standard"
    assert 0 <= shown["timings"]["first_block_s"] <= shown["timings"]["total_s"]
    assert "position" not in shown
    async with http.get(body["links"]["audio"]) as answer:
        assert wav_pcm(await answer.read()) == tone_pcm(1.5)


async def test_equal_requests_meet_in_one_job_and_other_bodies_are_refused(http: aiohttp.ClientSession) -> None:
    body = tone(params={"seconds": 0.2})
    for status in (202, 200):
        async with http.put("/v1/jobs/mine", json=body) as answer:
            assert (answer.status, (await answer.json())["id"]) == (status, "mine")
    async with http.put("/v1/jobs/mine", json=tone(params={"seconds": 0.3})) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"], problem["path"]) == (409, "conflict", "id")
    async with http.put("/v1/jobs/mine", json=body | {"id": "other"}) as answer:
        assert (answer.status, (await answer.json())["path"]) == (422, "id")
    ids = set()
    for status in (202, 200):
        async with http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "ä/1"}) as answer:
            assert answer.status == status
            ids.add((await answer.json())["id"])
    assert len(ids) == 1


async def test_a_waiting_job_shows_its_place_and_no_eta_that_is_a_guess(
    own_http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    running = await accepted(own_http, tone(params=gated(tmp_path / "open", 0, seconds=0.1)))
    await until_state(own_http, running, "running")
    jobs = [await accepted(own_http, tone(params={"seconds": 0.1})) for _ in range(4)]
    for place, job in enumerate(jobs):
        async with own_http.get(f"/v1/jobs/{job}") as answer:
            shown = await answer.json()
        assert (shown["state"], shown["position"]) == ("queued", place)
        assert "eta_s" not in shown
    async with asyncio.timeout(30), own_http.get(f"/v1/jobs/{jobs[-1]}/events") as answer:
        events = Events(answer)
        assert (await events.until("queue"))[-1]["data"] == {"position": 3}
        (tmp_path / "open").touch()
        body = await events.until("done")
    assert [event["event"] for event in body if event.get("event") != "queue"] == ["started", "done"]


async def test_an_eta_comes_from_the_starts_of_the_last_minute(own_http: aiohttp.ClientSession, tmp_path: Path) -> None:
    started, eta_s = 0, None
    async with asyncio.timeout(60):
        while eta_s is None:  # starts from before the gateway met the worker do not count, so it may take some more
            for _ in range(6):
                await until_state(own_http, await accepted(own_http, tone(params={"seconds": 0.1})), "done")
            gate = tmp_path / f"open{started}"
            running = await accepted(own_http, tone(params=gated(gate, 0, seconds=0.1)))
            await until_state(own_http, running, "running")
            jobs = [await accepted(own_http, tone(params={"seconds": 0.1})) for _ in range(3)]
            started += 7
            async with own_http.get(f"/v1/jobs/{jobs[2]}") as answer:
                shown = await answer.json()
            assert shown["position"] == 2
            eta_s = shown.get("eta_s")
            gate.touch()
            for job in jobs:
                await until_state(own_http, job, "done")
            started += 3
    assert (
        5 <= 2 * 60 / eta_s <= started + 0.1
    )  # two ahead, at the pace of at least five and at most all starts a minute


async def test_jobs_are_listed_newest_first_page_by_page(own_http: aiohttp.ClientSession) -> None:
    jobs = [await accepted(own_http, tone(params={"seconds": 0.1})) for _ in range(23)]
    for job in jobs:
        await until_state(own_http, job, "done")
    seen: list[str] = []
    before = ""
    while True:
        async with own_http.get(f"/v1/jobs?limit=5{before}") as answer:
            page = await answer.json()
        assert all(job["state"] == "done" and job["seconds"] == 0.1 for job in page["jobs"])
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        assert len(page["jobs"]) == 5
        before = f"&before={page['next']}"
    assert seen == jobs[::-1]


async def test_listening_may_begin_late_and_anywhere(http: aiohttp.ClientSession) -> None:
    job = await accepted(http, tone(params={"seconds": 2, **STEADY}))
    await until_state(http, job, "running")
    async with asyncio.timeout(30):
        async with http.get(f"/v1/jobs/{job}/audio") as answer:
            await answer.content.readexactly(wav_head_bytes(job) + 24_000)
            async with http.get(f"/v1/jobs/{job}/audio?format=pcm&from_frame=777") as past:
                assert await past.content.readexactly(2000) == tone_pcm(2, 777)[:2000]
                assert await past.read() == tone_pcm(2, 777)[2000:]
        job = await accepted(http, tone(params={"seconds": 2, **STEADY}))
        async with http.get(f"/v1/jobs/{job}/audio?format=pcm&from_frame=40001") as ahead:
            assert await ahead.read() == tone_pcm(2, 40_001)


async def test_a_listener_that_joins_and_leaves_ends_a_job_that_does_not_run_on(http: aiohttp.ClientSession) -> None:
    job = await accepted(http, tone(run_on=False, params={"seconds": 600, **STEADY}))
    async with http.get(f"/v1/jobs/{job}/audio") as answer:
        await answer.content.readexactly(100)
        answer.close()
    shown = await until_state(http, job, "cancelled", within_s=20)
    assert shown["error"]["message"] == "left", "the gateway settled it, not the worker that asks now and then"


async def test_reading_events_is_not_listening(http: aiohttp.ClientSession) -> None:
    async with http.post(SPEECH, json=tone(params={"seconds": 600, **STEADY})) as answer:
        job = answer.headers["Antiphon-Job"]
        await answer.content.readexactly(100)
        async with http.get(f"/v1/jobs/{job}/events") as events:
            stream = Events(events)
            await stream.until("started")
            answer.close()
            assert (await stream.until("cancelled"))[-1]["data"] == {"why": "left"}


async def test_cancel_frees_the_slot_and_answers_with_the_state_that_the_job_ended_in(
    http: aiohttp.ClientSession,
) -> None:
    job = await accepted(http, tone(params={"seconds": 600, **STEADY}))
    await until_state(http, job, "running")
    for _ in range(2):
        async with http.delete(f"/v1/jobs/{job}") as answer:
            assert (answer.status, await answer.json()) == (200, {"id": job, "state": "cancelled"})
    done = await accepted(http, tone(params={"seconds": 0.1}))
    shown = await until_state(http, done, "done", within_s=20)
    async with http.delete(f"/v1/jobs/{done}") as answer:
        assert (await answer.json())["state"] == "done"
    assert await until_state(http, done, "done") == shown
    async with http.get(f"/v1/jobs/{job}/audio") as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "cancelled")
    async with http.delete("/v1/jobs/nobody") as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "not_found")


@pytest.mark.slow
@pytest.mark.parametrize("ack_wait_s", [30.0])
async def test_a_killed_gateway_takes_no_job_along_and_another_one_goes_on_with_it(
    own: Stack, own_http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    _, other_url = own.fleet.gateway()
    async with asyncio.timeout(40), aiohttp.ClientSession(other_url) as other:
        received, job = b"", ""
        # Not at its end before the gateway is gone, however late that is.
        params = gated(tmp_path / "open", 20, seconds=4, **STEADY)
        async with own_http.post(SPEECH, json=tone(response_format="pcm", params=params)) as answer:
            job = answer.headers["Antiphon-Job"]
            async with other.get(f"/v1/jobs/{job}/events") as story:
                last_id = (await Events(story).until("started"))[-1]["id"]
            received = await answer.content.readexactly(20_000)
            own.gateway.kill()
            with pytest.raises(aiohttp.ClientError):
                while data := await answer.content.readany():
                    received += data
        (tmp_path / "open").touch()
        received = received[: len(received) // 2 * 2]
        async with other.get(f"/v1/jobs/{job}/audio?format=pcm&from_frame={len(received) // 2}") as rest:
            received += await rest.read()
        assert received == tone_pcm(4)
        async with other.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": last_id}) as story:
            assert [event["event"] for event in await Events(story).rest()] == ["done"]


@pytest.mark.slow
async def test_a_gateway_that_is_stopped_lets_streams_end_and_then_cuts_them_without_leaving(
    own: Stack, own_http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    short, short_url = own.fleet.gateway("--drain-s", "0.3")
    own.fleet.worker("w2", "tone", 2)
    async with asyncio.timeout(60), aiohttp.ClientSession(short_url) as leaving:
        await ready(leaving, "")
        # One that has the time …
        async with own_http.post(SPEECH, json=tone(response_format="pcm", params={"seconds": 1.5, **STEADY})) as answer:
            await answer.content.readexactly(4)
            stopping = asyncio.create_task(asyncio.to_thread(own.gateway.stop))
            assert await answer.content.read() == tone_pcm(1.5)[4:]
        assert await stopping == 0
        # … and one that has not: its body breaks off, its job goes on.
        params = gated(tmp_path / "open", 20, seconds=3, **STEADY)
        async with leaving.post(SPEECH, json=tone(params=params)) as answer:
            job = answer.headers["Antiphon-Job"]
            await answer.content.readexactly(100)
            stopping = asyncio.create_task(asyncio.to_thread(short.stop))
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()
        assert await stopping == 0
        _, third_url = own.fleet.gateway()
        async with aiohttp.ClientSession(third_url) as third:
            assert await state_of(third, job) == "running"
            (tmp_path / "open").touch()
            async with third.get(f"/v1/jobs/{job}/audio") as again:
                assert wav_pcm(await again.read()) == tone_pcm(3)


async def test_event_streams_do_not_hold_a_gateway_that_stops(own: Stack, own_http: aiohttp.ClientSession) -> None:
    job = await accepted(own_http, tone(params={"seconds": 600, **STEADY}))
    async with asyncio.timeout(40), own_http.get(f"/v1/jobs/{job}/events") as answer:
        events = Events(answer)
        await events.until("started")
        assert await asyncio.to_thread(own.gateway.stop) == 0
        assert await events.rest() == []
    assert own.gateway.events("gateway.draining")
    assert own.gateway.events("gateway.drain_timeout") == [], "it waited for all its patience"


async def test_readiness_needs_a_worker_and_a_request_without_one_says_so(fleet: Fleet) -> None:
    _, url = fleet.gateway()
    async with aiohttp.ClientSession(url) as http:
        async with http.get("/livez") as alive, http.get("/readyz") as not_ready:
            assert (alive.status, not_ready.status) == (200, 503)
            assert (await not_ready.json())["missing"] == ["a worker that is ready"]
        async with http.post("/v1/jobs", json=tone()) as answer:
            body = await answer.json()
            assert (answer.status, body["code"], body["retryable"]) == (503, "no_worker", True)
            assert int(answer.headers["Retry-After"]) >= 1
        worker = fleet.worker("w1", "tone", 3)
        await ready(http, "")
        async with http.get("/v1/fleet") as answer:
            shown = (await answer.json())["workers"]
        assert [(each["id"], each["pid"], each["slots"], each["state"]) for each in shown] == [
            ("w1", worker.pid, 3, "ready")
        ]
        worker.kill()
        async with asyncio.timeout(20):
            while (await http.get("/readyz")).status == 200:
                await asyncio.sleep(0.02)
        # Its model is known, so a job may wait for the next one.
        job = await accepted(http, tone(params={"seconds": 0.1}))
        assert await state_of(http, job) == "queued"
        fleet.worker("w2", "tone", 1)
        await until_state(http, job, "done")


async def test_jobs_from_the_bus_are_jobs_like_others(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with open_bus(stack.settings, "test") as bus:
        ack = await bus.js.publish(bus.subjects.job("tone", "v1", "batch", "public"), b'{"input":"x"}')
    shown: dict[str, Any] = await until_state(http, f"q{ack.seq}", "done")
    assert (shown["lane"], shown["frames"]) == ("batch", 48_000)
