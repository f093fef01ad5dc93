"""What a listener is promised, through real processes: gateway, worker, engine host, nats-server."""

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession

from tests.support import fleets
from tests.support.fleets import Stack
from tests.support.programs import Fleet, host_pid
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually
from tests.support.web import OWN_RUN, Body, ready, speech, sse, state, until_state

STEADY = {"block_ms": 50, "compute_ms": 50, "device": "own"}

#: One slot, for those tests that end no program of it.
stack = fleets.stack("tone", 1, "--max-fails", "0", ack_wait_s=30.0)
http = fleets.http()


async def slot_is_free(http: ClientSession) -> None:
    """Returns once the worker has made a sound."""
    async with http.post("/v1/audio/speech", json=speech(seconds=0.2), headers=OWN_RUN) as response:
        assert await response.read() == tone_pcm(0.2)


async def test_the_first_block_is_heard_while_the_engine_is_still_before_its_second(
    http: ClientSession, tmp_path: Path
) -> None:
    gate = tmp_path / "open"
    body = speech(seconds=0.3, gate={"path": str(gate), "before_block": 1}, device="own")
    async with asyncio.timeout(20), http.post("/v1/audio/speech", json=body) as response:
        heard = Body(response)
        assert await heard.at_least(4800) == tone_pcm(0.1)
        assert not gate.exists()
        gate.touch()
        assert await heard.rest() == tone_pcm(0.3)


async def test_a_client_that_hangs_up_frees_the_slot(http: ClientSession) -> None:
    async with asyncio.timeout(20):
        async with http.post("/v1/audio/speech", json=speech(seconds=600, **STEADY)) as response:
            body = Body(response)
            await body.at_least(10_000)
            job = body.job
            response.close()
        await slot_is_free(http)
        # Its lease is taken before its log ends: whoever had the slot may be told first.
        await until_state(http, "", job, "cancelled")


async def test_a_client_that_hangs_up_before_the_first_byte_frees_the_slot(
    stack: Stack, http: ClientSession, tmp_path: Path
) -> None:
    body = speech(seconds=5, gate={"path": str(tmp_path / "never"), "before_block": 0}, device="own")
    begun = len(stack.worker.events("job.started"))
    async with asyncio.timeout(20):
        asking = asyncio.create_task(http.post("/v1/audio/speech", json=body))
        await eventually(lambda: len(stack.worker.events("job.started")) > begun)
        asking.cancel()
        await slot_is_free(http)


async def test_delete_ends_a_running_job_and_is_idempotent(http: ClientSession) -> None:
    async with asyncio.timeout(20):
        async with http.post("/v1/audio/speech", json=speech(seconds=600, **STEADY)) as response:
            body = Body(response)
            await body.at_least(10_000)
            for _ in range(2):
                async with http.delete(f"/v1/jobs/{body.job}") as answer:
                    assert answer.status == 200
                    assert (await answer.json())["state"] == "cancelled"
            with pytest.raises(ClientPayloadError):
                await body.rest()
        await slot_is_free(http)


async def test_a_queued_job_that_is_cancelled_never_runs(stack: Stack, http: ClientSession) -> None:
    async with asyncio.timeout(20), http.post("/v1/audio/speech", json=speech(seconds=600, **STEADY)) as busy:
        await Body(busy).at_least(1000)
        async with http.post("/v1/jobs", json={"model": "tone", "input": "x", "params": {"seconds": 1}}) as answer:
            assert answer.status == 202
            queued = (await answer.json())["id"]
        assert (await state(http, "", queued))["state"] == "queued"
        async with http.delete(f"/v1/jobs/{queued}") as answer:
            assert (await answer.json())["state"] == "cancelled"
        busy.close()
        await slot_is_free(http)
    assert queued not in {event["job"] for event in stack.worker.events("job.started")}


@pytest.mark.parametrize("ack_wait_s", [30.0])
async def test_kill_minus_9_of_a_worker_in_mid_stream_is_inaudible_and_soon_over(
    fleet: Fleet, http: ClientSession
) -> None:
    """With 30 s of ack_wait the stream can only go on because a gateway took the dead worker's job away."""
    workers = {name: fleet.worker(name) for name in ("w1", "w2")}
    _, url = fleet.gateway()
    await ready(http, url)
    async with asyncio.timeout(20), http.post(f"{url}/v1/audio/speech", json=speech(seconds=3, **STEADY)) as response:
        body = Body(response)
        await body.at_least(20_000)
        victim = (await state(http, url, body.job))["worker"]
        workers[victim].kill()
        assert await body.rest() == tone_pcm(3)
        assert (await state(http, url, body.job))["attempts"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("ack_wait_s", [30.0])
async def test_kill_minus_9_of_the_engine_host_alone_is_inaudible(fleet: Fleet, http: ClientSession) -> None:
    worker = fleet.worker()
    _, url = fleet.gateway()
    await ready(http, url)
    async with asyncio.timeout(20), http.post(f"{url}/v1/audio/speech", json=speech(seconds=3, **STEADY)) as response:
        body = Body(response)
        await body.at_least(20_000)
        os.kill(host_pid(worker), signal.SIGKILL)
        assert await body.rest() == tone_pcm(3)


@pytest.mark.slow
@pytest.mark.parametrize("ack_wait_s", [30.0])
async def test_a_killed_gateway_is_not_leaving_and_another_one_gives_the_rest(
    fleet: Fleet, http: ClientSession
) -> None:
    fleet.worker()
    first, url = fleet.gateway()
    _, other = fleet.gateway()
    await ready(http, url)
    await ready(http, other)
    async with asyncio.timeout(30):
        async with http.post(f"{url}/v1/audio/speech", json=speech(seconds=4, **STEADY)) as response:
            body = Body(response)
            heard = await body.at_least(20_000)
            first.kill()
            with pytest.raises(ClientPayloadError):
                await body.rest()
        async with http.get(f"{other}/v1/jobs/{body.job}/audio?format=pcm") as response:
            whole = await response.read()
        assert whole == tone_pcm(4)
        assert whole.startswith(heard)
        async with http.get(f"{other}/v1/jobs/{body.job}/events") as response:
            events = [event async for event in sse(response)]
        assert [name for _, name, _ in events] == ["accepted", "started", "done"]
        resume = {"Last-Event-ID": events[1][0]}
        async with http.get(f"{other}/v1/jobs/{body.job}/events", headers=resume) as response:
            assert [event async for event in sse(response)] == events[2:]


async def test_a_failure_after_the_first_byte_cuts_the_body_short(http: ClientSession) -> None:
    body = speech(seconds=2, fault={"kind": "raise", "at_block": 5}, **STEADY)
    async with asyncio.timeout(20), http.post("/v1/audio/speech", json=body) as response:
        assert response.status == 200
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_a_failure_before_the_first_byte_is_a_proper_answer(http: ClientSession) -> None:
    body = speech(seconds=2, fault={"kind": "raise", "at_block": 0})
    async with asyncio.timeout(20), http.post("/v1/audio/speech", json=body) as response:
        assert response.status == 502
        error = (await response.json())["error"]
        assert error["code"] == "engine_failed"
        assert "Antiphon-Job" in response.headers


async def test_a_running_job_expires_in_mid_stream_and_its_body_is_cut(http: ClientSession) -> None:
    due = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    asked: dict[str, Any] = {"model": "tone", "input": "x", "params": {"seconds": 600, **STEADY}, "expires_at": due}
    async with asyncio.timeout(20):
        async with http.post("/v1/jobs", json=asked) as answer:
            job = (await answer.json())["id"]
        await until_state(http, "", job, "expired")
        await slot_is_free(http)


async def test_a_slow_reader_costs_the_worker_nothing_and_still_gets_every_sample(
    stack: Stack, http: ClientSession
) -> None:
    seconds = 300
    async with asyncio.timeout(60), http.post("/v1/audio/speech", json=speech(seconds=seconds)) as response:
        body = Body(response)
        await body.at_least(1000)
        await eventually(
            lambda: body.job in {event["job"] for event in stack.worker.events("job.finished")}, within_s=30
        )
        pages = int(Path(f"/proc/{stack.gateway.pid}/statm").read_text().split()[1])
        assert pages * 4096 < 150e6
        assert await body.rest() == tone_pcm(seconds)
