"""The plain paths against the real programs, requested by `curl` and by a few lines of a script."""

import asyncio
import io
import json
import subprocess
import wave
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import fleets
from tests.support.doors import STEADY, data_at, gated, until_state, wav_head_bytes, wav_pcm, wav_sizes
from tests.support.fleets import Stack
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm

stack = fleets.stack("tone,music,speech", 2, "--max-fails", "0", knows_all=True)
http = fleets.http()


def tone(seconds: float, **params: Any) -> dict[str, Any]:
    return {"model": "tone", "prompt": "a tone", "duration": seconds, "params": params}


async def posted(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with http.post(path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        response: dict[str, Any] = await answer.json()
        assert answer.headers["Antiphon-Job"] in response.values()
    return response


@pytest.mark.slow
async def test_generate_returns_the_url_of_a_complete_file(http: aiohttp.ClientSession) -> None:
    output = await posted(http, "/generate", tone(1.5))
    assert output == {
        "id": output["id"],
        "status": "done",
        "url": f"/output/{output['id']}.wav",
        "duration": 1.5,
        "sample_rate": 24_000,
        "channels": 1,
    }
    async with http.get(output["url"]) as answer:
        body = await answer.read()
        assert (answer.headers["Content-Type"], answer.content_length) == ("audio/wav", len(body))
    assert wav_pcm(body) == tone_pcm(1.5)
    with wave.open(io.BytesIO(body)) as file:
        assert (file.getframerate(), file.getnframes()) == (24_000, 36_000)
    async with http.get(output["url"], headers={"Range": f"bytes={data_at(body)}-{data_at(body) + 4799}"}) as answer:
        assert (answer.status, await answer.read()) == (206, tone_pcm(0.1))


async def test_generate_makes_music_of_the_requested_length(http: aiohttp.ClientSession) -> None:
    output = await posted(http, "/generate", {"prompt": "a calm evening", "duration": 5, "unknown": 1})
    assert abs(output["duration"] - 5) < 0.5
    assert (await until_state(http, output["id"], "done"))["model"] == "music"


async def test_hanging_up_on_generate_frees_the_slot(stack: Stack, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    started = len(stack.worker.events("job.started"))
    pending = asyncio.create_task(posted(http, "/generate", tone(1, **gated(tmp_path / "never", 1))))
    begun = await asyncio.to_thread(stack.worker.wait_for, "job.started", started + 1)
    pending.cancel()
    await until_state(http, begun["job"], "cancelled")


async def test_a_task_is_queued_and_its_chunks_can_be_requested_one_by_one(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    params = gated(tmp_path / "open", 2, block_ms=100)
    task = await posted(http, "/api/generate", tone(0.5, **params))
    assert task == {"task_id": task["task_id"], "status": "queued"}
    received, waited, index = b"", 0, 0
    async with asyncio.timeout(30):
        while True:
            async with http.get(f"/api/chunk/{task['task_id']}/{index}") as answer:
                if answer.status == 404:
                    ended = await answer.json()
                    break
                if answer.status == 202:
                    progress = await answer.json()
                    assert progress["task_id"] == task["task_id"]
                    assert progress["status"] in {"queued", "running"}
                    assert answer.headers["Retry-After"] == "1"
                    if progress.get("chunks", 0) == index > 0:
                        waited += 1
                        (tmp_path / "open").touch()
                    continue
                assert (answer.status, answer.headers["Content-Type"]) == (200, "audio/wav")
                chunk = await answer.read()
                assert wav_sizes(chunk) == (len(chunk) - 8, len(chunk) - data_at(chunk))
                received += wav_pcm(chunk)
                index += 1
    assert waited > 0
    assert received == tone_pcm(0.5)
    assert f"has {index} chunks" in ended["detail"]


async def test_the_file_of_a_running_task_is_a_stream(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    task = await posted(http, "/api/generate", tone(0.3, **gated(tmp_path / "open", 1, block_ms=100)))
    async with asyncio.timeout(30), http.get(f"/output/{task['task_id']}.wav") as answer:
        assert wav_pcm(await answer.content.readexactly(wav_head_bytes(task["task_id"]) + 4800)) == tone_pcm(0.1)
        (tmp_path / "open").touch()
        assert await answer.content.read() == tone_pcm(0.3)[4800:]


async def test_a_chunk_that_a_failed_task_never_made_is_the_tasks_error(http: aiohttp.ClientSession) -> None:
    params = {"fault": {"kind": "raise", "at_block": 4}, **STEADY}
    task = await posted(http, "/api/generate", tone(1, **params))
    shown = await until_state(http, task["task_id"], "failed")
    assert shown["blocks"] > 0
    async with http.get(f"/api/chunk/{task['task_id']}/0") as answer:
        assert answer.status == 200
    async with http.get(f"/api/chunk/{task['task_id']}/{shown['blocks']}") as answer:
        assert (answer.status, (await answer.json())["code"]) == (502, "engine_failed")


REFUSALS: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("/generate", {"prompt": "abcd"}, 422, "prompt", "at least 5"),
    ("/generate", {"prompt": "  a b  "}, 422, "prompt", "at least 5"),
    ("/api/generate", {"prompt": "abcd", "duration": 5}, 422, "prompt", "at least 5"),
    ("/generate", {}, 422, "prompt", "required"),
    ("/generate", {"prompt": "", "model": "tone"}, 422, "prompt", "prompt: is empty"),
    ("/generate", {"prompt": "a calm evening", "duration": 0}, 422, "duration", "duration: 0"),
    ("/generate", {"prompt": "a calm evening", "duration": 1e9}, 422, "duration", "duration: 1000000000"),
    ("/generate", {"prompt": "a calm evening", "duration": "long"}, 422, "duration", "long"),
    ("/generate", {"prompt": "a calm evening", "params": {"seconds": 0}}, 422, "params.seconds", "params.seconds"),
    ("/generate", {"prompt": "Hello", "model": "speech", "duration": 3}, 422, "duration", "speech"),
    ("/generate", {"prompt": "Hello", "model": "unknown"}, 404, "model", "'unknown'"),
]


@pytest.mark.parametrize(("path", "body", "status", "field", "words"), REFUSALS, ids=range(len(REFUSALS)))
async def test_an_invalid_request_is_refused_with_the_name_of_its_field(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any], status: int, field: str, words: str
) -> None:
    async with http.post(path, json=body) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem.get("path")) == (status, field)
    assert words in problem["detail"]


async def test_only_music_needs_a_long_prompt(http: aiohttp.ClientSession) -> None:
    assert (await posted(http, "/generate", {"prompt": "Hi.", "model": "speech"}))["duration"] > 0.1


@pytest.mark.parametrize(
    "path", ["/output/unknown.wav", "/api/chunk/unknown/0", "/api/chunk/unknown/x", "/output/x.mp3"]
)
async def test_an_unknown_file_or_task_is_not_found(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as answer:
        assert (answer.status, answer.content_type) == (404, "application/problem+json")


async def test_health_reports_loaded_models_and_only_known_memory(
    stack: Stack, fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    async with http.get("/health") as answer:
        health = await answer.json()
    assert (answer.status, health["status"], health["model_loaded"]) == (200, "ok", True)
    assert health["gpu_memory_used"] == 0  # its worker has a CPU
    _, alone = fleet.gateway()
    async with http.get(f"{alone}/health") as answer:
        health = await answer.json()
    assert (answer.status, health["status"], health["model_loaded"]) == (503, "not ready", False)
    assert health["gpu_memory_used"] is None


def curl(*arguments: str) -> bytes:
    done = subprocess.run(["curl", "-sS", "--max-time", "20", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


async def test_curl_gets_speech_music_and_chunks_without_a_content_type_of_json(
    stack: Stack, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    url = stack.url
    sent = ["-d", '{"model":"tone","input":"x","response_format":"wav","params":{"seconds":0.5}}']
    out = tmp_path / "tone.wav"
    await asyncio.to_thread(curl, f"{url}/v1/audio/speech", *sent, "-o", str(out))
    assert wav_pcm(out.read_bytes()) == tone_pcm(0.5)
    output = json.loads(
        await asyncio.to_thread(curl, f"{url}/generate", "-d", '{"prompt":"rainy street","duration":4}')
    )
    await asyncio.to_thread(curl, url + output["url"], "-o", str(out))
    with wave.open(str(out)) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(output["duration"], abs=0.001)
    task = json.loads(await asyncio.to_thread(curl, f"{url}/api/generate", "-d", json.dumps(tone(0.2))))
    await until_state(http, task["task_id"], "done")
    chunk = await asyncio.to_thread(curl, f"{url}/api/chunk/{task['task_id']}/0")
    assert tone_pcm(0.2).startswith(wav_pcm(chunk))


async def test_curl_receives_events_as_they_are_sent(stack: Stack, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    gate = gated(tmp_path / "open", 1, seconds=0.3, block_ms=100)
    body = {"model": "tone", "input": "x", "response_format": "pcm", "stream_format": "sse", "params": gate}
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sSN", "--max-time", "20", f"{stack.url}/v1/audio/speech", "-d", json.dumps(body)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"event: speech.audio.delta\n"
    (tmp_path / "open").touch()
    rest = await process.stdout.read()
    assert await process.wait() == 0
    assert rest.decode().splitlines()[-2].startswith("event: speech.audio.done") or b"speech.audio.done" in rest
