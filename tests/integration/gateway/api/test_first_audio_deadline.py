"""`first_audio_deadline_s`: audio that comes too late to be of use is not made, whatever state the job is in."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bus import wire
from bus.jobs.birth import digest
from bus.jobs.client import Bus
from bus.settings import BusSettings
from tests.support import fleets
from tests.support.bus import num_jobs, until
from tests.support.doors import gateway_here, until_state
from tests.support.jobs import JobListener, listen, tone_job
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm
from tests.support.web import speech

#: One slot, of those tests that end no program and ask a gateway.
stack = fleets.stack("tone", 1)
http = fleets.http()


async def emptied(bus: Bus) -> bool:
    return await num_jobs(bus) == 0


def why(payload: bytes) -> str:
    return wire.decode(wire.Ended, payload).why


async def test_a_queued_job_expires_by_its_gateways_timer_and_its_log_says_why(
    bus: Bus, bus_settings: BusSettings
) -> None:
    job = tone_job(first_audio_deadline_s=0.3)
    async with gateway_here(bus_settings) as (gateway, _), asyncio.timeout(20):
        accepted = await gateway.jobs.accept(job)
        while (tail := await bus.logs.tail(bus.subjects.job_key("public", job.id))) is None:
            await asyncio.sleep(0.01)
        late_s = gateway.bus.clock.now() - accepted.birth.accepted_at  # another clock may be some milliseconds behind
        assert (tail.kind, why(tail.payload)) == ("expired", "no audio within 0.3 s of its acceptance")
        assert late_s >= 0.3
        await until(lambda: emptied(bus))


async def test_a_running_job_without_a_first_block_expires_and_frees_its_slot(
    fleet: Fleet, bus: Bus, tmp_path: Path
) -> None:
    """No gateway lives: the worker looks itself."""
    fleet.worker("w1", "tone", 1)
    gate = {"path": str(tmp_path / "never"), "before_block": 0}
    async with asyncio.timeout(30):
        received = await listen(bus, tone_job(first_audio_deadline_s=0.7, gate=gate, device="own"))
        assert (received.end.kind, why(received.end.payload)) == ("expired", "no audio within 0.7 s of its acceptance")
        assert (await listen(bus, tone_job(seconds=0.2))).pcm == tone_pcm(0.2)


async def test_a_job_that_is_pulled_too_late_never_runs(fleet: Fleet, bus: Bus) -> None:
    job = tone_job(first_audio_deadline_s=0.05)
    async with asyncio.timeout(60), JobListener(bus, job) as listener:
        fleet.worker()
        received = await listener.to_the_end()
    assert ([entry.kind for entry in received.entries], received.starts) == (["expired"], [])


@pytest.mark.slow
async def test_a_job_whose_audio_began_in_time_is_left_alone(fleet: Fleet, bus: Bus, bus_settings: BusSettings) -> None:
    """By the worker and by the gateway whose timer runs out in the middle of it."""
    fleet.worker()
    job = tone_job(seconds=3.5, block_ms=50, compute_ms=50, first_audio_deadline_s=2.5)
    async with gateway_here(bus_settings) as (gateway, _), asyncio.timeout(40), JobListener(bus, job) as listener:
        birth = await bus.logs.birth(listener.name)
        assert birth is not None
        gateway.deadlines.watch(listener.name, birth[1])
        received = await listener.to_the_end()
    assert (received.end.kind, received.pcm) == ("done", tone_pcm(3.5))


@pytest.mark.slow
async def test_after_its_audio_began_in_time_a_job_still_has_its_last_deadline(
    fleet: Fleet, bus: Bus, bus_settings: BusSettings
) -> None:
    fleet.worker()
    due = datetime.now(UTC) + timedelta(seconds=3.5)
    job = tone_job(seconds=600, block_ms=50, compute_ms=50, device="own", first_audio_deadline_s=2.5, expires_at=due)
    async with asyncio.timeout(40):
        received = await listen(bus, job)
    assert (received.end.kind, "not done by" in why(received.end.payload)) == ("expired", True)
    assert received.pcm


async def test_both_http_apis_take_it_and_answer_504_when_it_is_missed(http: ClientSession) -> None:
    async with asyncio.timeout(60):
        blocker = {"model": "tone", "input": "x", "params": {"seconds": 600, "compute_ms": 100, "device": "own"}}
        async with http.post("/v1/jobs", json=blocker) as answer:
            assert answer.status == 202
            blocking = (await answer.json())["id"]
        await until_state(http, blocking, "running")  # until it has the slot: the next job has a higher lane
        async with http.post("/v1/audio/speech", json={**speech(), "first_audio_deadline_s": 0.5}) as answer:
            assert answer.status == 504
            assert "no audio within 0.5 s" in (await answer.json())["error"]["message"]
        body = {"model": "tone", "input": "x", "first_audio_deadline_s": 0.3}
        async with http.post("/v1/jobs", json=body) as answer:
            shown = await answer.json()
        shown = await until_state(http, shown["id"], "expired")
        assert "no audio within 0.3 s" in shown["error"]["message"]
        await http.delete(f"/v1/jobs/{blocking}")


@pytest.mark.parametrize("seconds", [0, -1, 43_201, 1e300])
async def test_a_deadline_that_is_none_is_refused_with_its_limit(http: ClientSession, seconds: float) -> None:
    body = {"model": "tone", "input": "x", "first_audio_deadline_s": seconds}
    async with asyncio.timeout(30), http.post("/v1/jobs", json=body) as answer:
        problem = await answer.json()
    assert (answer.status, problem["path"]) == (422, "first_audio_deadline_s")
    assert "43200" in problem["detail"]


async def test_two_requests_that_differ_in_their_patience_are_one_job(bus: Bus) -> None:
    """Like `expires_at`, it limits when the audio is of use, and does not change it."""
    assert digest(tone_job(first_audio_deadline_s=1)) == digest(tone_job())
