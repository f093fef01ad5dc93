"""`POST /v1/audio/speech` against the real programs: audio from the first block on, complete or visibly cut short."""

import asyncio
import time
import wave
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support import fleets
from tests.support.doors import SPEECH, STEADY, gated, state_of, tone, until_state, wav, wav_pcm, wav_sizes
from tests.support.fleets import Stack
from tests.support.sockets import job_after
from tests.support.tone import tone_pcm

#: One slot. A fault of the engine does not open the breaker.
stack = fleets.stack("tone,speech", 1, "--max-fails", "0")
http = fleets.http()


async def test_audio_is_sample_exact_in_both_formats_and_the_head_names_the_job(http: aiohttp.ClientSession) -> None:
    params = {"seconds": 3.3, "block_ms": 70}
    async with http.post(SPEECH, json=wav(voice="alloy", params=params)) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "audio/wav")
        assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-store", "no")
        job = answer.headers["Antiphon-Job"]
        assert answer.headers["X-Request-Id"] == job
        body = await answer.read()
    assert wav_sizes(body) == (0xFFFFFFFF, 0xFFFFFFFF)
    assert wav_pcm(body) == tone_pcm(3.3)
    assert await state_of(http, job) == "done"
    async with http.post(SPEECH, json=tone(response_format="pcm", params=params)) as answer:
        assert answer.headers["Content-Type"] == "audio/pcm;rate=24000;channels=1"
        assert answer.headers["Antiphon-Media"] == "audio/L16;rate=24000;channels=1"
        assert await answer.read() == tone_pcm(3.3)


async def test_a_wav_whose_audio_is_all_there_knows_its_sizes(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    request = {"model": "speech", "input": "The sizes are known.", "response_format": "wav"}
    bodies = []
    for outcome in ("miss", "hit"):
        async with http.post(SPEECH, json=request) as answer:
            assert answer.headers["Antiphon-Cache"] == outcome
            bodies.append(await answer.read())
    streamed, known = bodies
    assert wav_sizes(known) == (len(known) - 8, len(wav_pcm(known)))
    assert wav_pcm(known) == wav_pcm(streamed)
    file = tmp_path / "hello.wav"
    file.write_bytes(known)
    with wave.open(str(file)) as read:
        assert 0.5 < read.getnframes() / read.getframerate() < 5


async def test_the_first_block_is_at_the_client_before_the_second_is_made(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    params = gated(tmp_path / "open", 1, seconds=1, block_ms=100)
    async with asyncio.timeout(30), http.post(SPEECH, json=tone(response_format="pcm", params=params)) as answer:
        assert await answer.content.readexactly(4800) == tone_pcm(0.1)
        (tmp_path / "open").touch()
        assert await answer.content.read() == tone_pcm(1)[4800:]


async def test_a_failure_before_the_first_block_has_a_status_of_its_own(http: aiohttp.ClientSession) -> None:
    for kind, status, code in (("raise", 502, "engine_failed"), ("oom", 503, "out_of_memory")):
        async with http.post(SPEECH, json=wav(params={"fault": {"kind": kind, "at_block": 0}})) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"], error["type"]) == (status, code, "server_error")
            assert await state_of(http, answer.headers["Antiphon-Job"]) == "failed"


async def test_a_later_failure_cuts_the_body_short_after_all_good_blocks(http: aiohttp.ClientSession) -> None:
    params = {"seconds": 2, "fault": {"kind": "raise", "at_block": 10}, **STEADY}
    body = b""
    async with asyncio.timeout(30), http.post(SPEECH, json=tone(response_format="pcm", params=params)) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            async for data in answer.content.iter_any():
                body += data
    assert body == tone_pcm(0.5)


async def test_a_client_without_chunks_sees_a_reset_and_no_orderly_end(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    host, _, port = stack.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"model":"tone","input":"x","params":{"seconds":2,"block_ms":50,"compute_ms":50,"fault":{"kind":"raise","at_block":10}}}'
    writer.write(b"POST %b HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (SPEECH.encode(), len(body), body))
    async with asyncio.timeout(30):
        assert (await reader.readline()).split()[1] == b"200"
        with pytest.raises(ConnectionResetError):
            await reader.read()
    writer.close()


async def test_hanging_up_in_mid_stream_frees_the_slot(http: aiohttp.ClientSession) -> None:
    async with http.post(SPEECH, json=wav(params={"seconds": 600, **STEADY})) as answer:
        job = answer.headers["Antiphon-Job"]
        await answer.content.readexactly(100)
        answer.close()
    async with (
        asyncio.timeout(20),
        http.post(SPEECH, json=tone(response_format="pcm", params={"seconds": 0.2})) as next_,
    ):
        assert await next_.read() == tone_pcm(0.2)
    shown = await until_state(http, job, "cancelled")
    assert shown["error"]["message"] == "left", "the gateway settled it, not the worker that asks now and then"


async def test_hanging_up_before_the_first_block_cancels_a_job_that_never_runs(
    stack: Stack, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    begun = len(stack.worker.events("job.started"))
    running = asyncio.create_task(_pcm(http, tone(params=gated(tmp_path / "open", 1, seconds=0.5))))
    before = (await asyncio.to_thread(stack.worker.wait_for, "job.started", begun + 1))["job"]
    waiting = asyncio.create_task(_pcm(http, tone(params={"seconds": 0.3})))
    job = await job_after(http, before)
    waiting.cancel()
    await until_state(http, job, "cancelled")
    (tmp_path / "open").touch()
    assert await running == tone_pcm(0.5)
    # No other test requests this one, so it has to run: after the one that was left.
    assert await _pcm(http, tone(params={"seconds": 0.21})) == tone_pcm(0.21)
    assert job not in {event["job"] for event in stack.worker.events("job.started")}


async def test_a_job_that_runs_on_outlives_its_listener(http: aiohttp.ClientSession) -> None:
    async with http.post(SPEECH, json=wav(run_on=True, params={"seconds": 1, **STEADY})) as answer:
        job = answer.headers["Antiphon-Job"]
        await answer.content.readexactly(100)
        answer.close()
    assert (await until_state(http, job, "done", "cancelled"))["state"] == "done"


@pytest.mark.slow
async def test_a_job_that_lingers_waits_for_its_listener_to_come_back(http: aiohttp.ClientSession) -> None:
    async with http.post(SPEECH, json=wav(linger_s=4, params={"seconds": 4.5, **STEADY})) as answer:
        job = answer.headers["Antiphon-Job"]
        await answer.content.readexactly(9600)
        answer.close()
    async with http.get(f"/v1/jobs/{job}/audio?format=pcm&from_frame=4000") as again:
        assert await again.read() == tone_pcm(4.5, 4000)
    async with http.post(SPEECH, json=wav(linger_s=0.3, params={"seconds": 600, **STEADY})) as answer:
        job = answer.headers["Antiphon-Job"]
        await answer.content.readexactly(100)
        answer.close()
    shown = await until_state(http, job, "cancelled", within_s=20)
    assert shown["error"]["message"] == "left"


async def test_one_of_two_listeners_may_leave(http: aiohttp.ClientSession) -> None:
    async with http.post(SPEECH, json=tone(response_format="pcm", params={"seconds": 1.5, **STEADY})) as answer:
        job = answer.headers["Antiphon-Job"]
        await answer.content.readexactly(100)
        async with http.get(f"/v1/jobs/{job}/audio?format=pcm") as second:
            await second.content.readexactly(100)
            answer.close()
            assert await second.read() == tone_pcm(1.5)[100:]


async def test_an_idempotency_key_attaches_to_the_same_audio(http: aiohttp.ClientSession) -> None:
    headers, body = {"Idempotency-Key": "k 1"}, tone(response_format="pcm", params={"seconds": 0.5})
    jobs, took_s = set(), []
    for _ in range(6):
        began_at = time.monotonic()
        async with asyncio.timeout(20), http.post(SPEECH, json=body, headers=headers) as answer:
            jobs.add(answer.headers["Antiphon-Job"])
            assert await answer.read() == tone_pcm(0.5)
        took_s.append(time.monotonic() - began_at)
    assert len(jobs) == 1
    # Attaching to a log without new entries takes 2 s each time; a busy machine is busy now and then.
    assert min(took_s[1:]) < 1.5, took_s


async def test_a_slow_reader_costs_the_worker_nothing_and_the_gateway_bounded_memory(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    await _pcm(http, tone(params={"seconds": 1}))
    before = psutil.Process(stack.gateway.pid).memory_info().rss
    async with http.post(SPEECH, json=tone(response_format="pcm", params={"seconds": 600, "block_ms": 1000})) as answer:
        job = answer.headers["Antiphon-Job"]
        await until_state(http, job, "done", within_s=60)  # 28.8 MB, and no client has read them
        assert psutil.Process(stack.gateway.pid).memory_info().rss - before < 12 << 20
        assert await answer.read() == tone_pcm(600)


async def test_openai_names_reach_a_model_and_a_voice_of_ours(http: aiohttp.ClientSession) -> None:
    body: dict[str, Any] = {
        "model": "tts-1",
        "input": "Hello.",
        "voice": {"id": "nova"},
        "speed": 1.5,
        "instructions": "softly",
        "response_format": "wav",
    }
    async with http.post(SPEECH, json=body | {"stream": True}) as answer:
        assert answer.status == 200
        shown = await until_state(http, answer.headers["Antiphon-Job"], "done")
        assert len(wav_pcm(await answer.read())) == 2 * shown["frames"]
    assert (shown["model"], shown["engine"]["words_per_minute"]) == ("speech", 262)


async def _pcm(http: aiohttp.ClientSession, body: dict[str, Any]) -> bytes:
    async with http.post(SPEECH, json={**body, "response_format": "pcm"}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()
