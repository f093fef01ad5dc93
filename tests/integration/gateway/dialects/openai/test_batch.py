"""vLLM-Omni's batch of speech requests, against the real programs."""

import asyncio
from base64 import b64decode
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import fleets
from tests.support.doors import gated, until_state, wav_pcm, wav_sizes
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm

BATCH = "/v1/audio/speech/batch"

stack = fleets.stack("tone", 4, "--max-fails", "0", knows_all=True)
http = fleets.http()


async def posted(http: aiohttp.ClientSession, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    async with http.post(BATCH, json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        result: dict[str, Any] = await answer.json()
        jobs = [each["job"] for each in result["results"] if "job" in each]
        assert answer.headers["Antiphon-Job"] == ", ".join(jobs)
    return result


async def test_each_item_has_its_audio_in_its_own_format_or_its_own_error(http: aiohttp.ClientSession) -> None:
    items: list[dict[str, Any]] = [
        {"input": "one"},
        {"input": "two", "response_format": "pcm", "params": {"seconds": 0.7}},
        {"input": ""},
        {"input": "four", "params": {"fault": {"kind": "raise"}}},
        {"input": "five", "model": "unknown"},
    ]
    result = await posted(http, {"model": "tone", "params": {"seconds": 0.5}, "items": items, "of_another_server": 1})
    assert (result["total"], result["succeeded"], result["failed"]) == (5, 2, 3)
    assert [each["index"] for each in result["results"]] == [0, 1, 2, 3, 4]
    assert [each["status"] for each in result["results"]] == ["success", "success", "error", "error", "error"]
    one, two, three, four, five = result["results"]
    wav = b64decode(one["audio_data"])
    assert (one["media_type"], wav_sizes(wav), wav_pcm(wav)) == ("audio/wav", (len(wav) - 8, 24_000), tone_pcm(0.5))
    assert (two["media_type"], b64decode(two["audio_data"])) == ("audio/pcm", tone_pcm(0.7))
    assert (two["usage"]["input_characters"], two["usage"]["output_seconds"]) == (3, 0.7)
    assert ("input: is empty" in three["error"], "job" in three) == (True, False)
    assert ("failed" in four["error"], "'unknown'" in five["error"]) == (True, True)
    assert (await until_state(http, four["job"], "failed"))["state"] == "failed"


async def test_an_idempotency_key_makes_equal_batches_the_same_jobs(http: aiohttp.ClientSession) -> None:
    body = {"model": "tone", "params": {"seconds": 0.1}, "items": [{"input": "a"}, {"input": "b"}]}
    first, second = [await posted(http, body, **{"Idempotency-Key": "batch"}) for _ in range(2)]
    jobs = [each["job"] for each in first["results"]]
    assert len(set(jobs)) == 2
    assert jobs == [each["job"] for each in second["results"]]
    assert first == second


async def test_hanging_up_leaves_every_item(stack: Stack, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    started = len(stack.worker.events("job.started"))
    body = {"model": "tone", "params": gated(tmp_path / "never", 1), "items": [{"input": "a"}, {"input": "b"}]}
    pending = asyncio.create_task(posted(http, body))
    await asyncio.to_thread(stack.worker.wait_for, "job.started", started + 2)
    pending.cancel()
    for begun in stack.worker.events("job.started")[started:]:
        await until_state(http, begun["job"], "cancelled")


async def test_an_item_that_is_too_long_for_memory_is_an_error_of_that_item(
    http: aiohttp.ClientSession,
) -> None:
    items = [{"input": "a", "params": {"seconds": 200, "block_ms": 1000}}, {"input": "b"}]
    result = await posted(http, {"model": "tone", "params": {"seconds": 0.1}, "items": items})
    assert [each["status"] for each in result["results"]] == ["error", "success"]
    assert "4194304 bytes" in result["results"][0]["error"]


@pytest.mark.parametrize("count", [0, 33])
async def test_a_batch_has_from_1_to_32_items(http: aiohttp.ClientSession, count: int) -> None:
    async with http.post(BATCH, json={"model": "tone", "items": [{"input": "x"}] * count}) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["param"], error["type"]) == (400, "items", "invalid_request_error")
