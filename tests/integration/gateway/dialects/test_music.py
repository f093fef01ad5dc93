"""The default model for music behind ElevenLabs' and ACE-Step's APIs."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import elevenlabs
import httpx
import pytest

from gateway.codecs import Format
from tests.support import fleets
from tests.support.codecs import decoded
from tests.support.fleets import Stack

pytestmark = pytest.mark.slow

stack = fleets.stack("music", 2)


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as http:
        async with asyncio.timeout(20):
            while (await http.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
        yield http


async def test_elevenlabs_music_is_stereo_of_the_requested_length(stack: Stack, http: httpx.AsyncClient) -> None:
    client = elevenlabs.AsyncElevenLabs(base_url=stack.url, httpx_client=http)
    for model_id, rate_hz in (("music_v1", 44_100), ("music_v2", 48_000)):
        pieces = client.music.compose(prompt="a calm piano waltz", music_length_ms=3000, model_id=model_id)
        samples, decoded_hz = decoded(b"".join([piece async for piece in pieces]), Format("mp3"), rate_hz, 2)
        assert (decoded_hz, samples.shape[1]) == (rate_hz, 2)
        assert len(samples) / decoded_hz == pytest.approx(3, abs=0.08)
        assert abs(samples).max() > 1000


async def test_a_prompt_that_the_engine_refuses_has_the_name_of_elevenlabs_field(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/music", json={"prompt": "abc"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "prompt"])


async def test_an_acestep_task_is_composed_from_its_fields(http: httpx.AsyncClient) -> None:
    body = {"caption": "a calm piano", "duration": 3, "bpm": 90, "key_scale": "D minor", "batch_size": 1}
    task = (await http.post("/release_task", json=body)).json()["data"]["task_id"]
    async with asyncio.timeout(60):
        while (entry := await _entry(http, task))["status"] == 0:
            await asyncio.sleep(0.05)
    (element,) = json.loads(entry["result"])
    assert (element["metas"]["bpm"], element["metas"]["keyscale"]) == (90, "D minor")
    assert element["dit_model"] == "music"
    samples, decoded_hz = decoded((await http.get(element["file"])).content, Format("mp3"), 48_000, 2)
    assert len(samples) / decoded_hz == pytest.approx(3, abs=0.08)


@pytest.mark.parametrize("metre", ["2", "3", "4", "6"])
async def test_acesteps_keys_tempi_and_metres_are_obeyed(http: httpx.AsyncClient, metre: str) -> None:
    body = {"prompt": "calm piano", "key_scale": "Am", "bpm": 300, "time_signature": metre, "audio_duration": 3}
    task = (await http.post("/release_task", json={**body, "batch_size": 1})).json()["data"]["task_id"]
    async with asyncio.timeout(60):
        while (entry := await _entry(http, task))["status"] == 0:
            await asyncio.sleep(0.05)
    metas = json.loads(entry["result"])[0]["metas"]
    assert (metas["bpm"], metas["keyscale"], metas["timesignature"]) == (300, "A minor", metre)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("bpm", 29, "29"),
        ("bpm", 301, "301"),
        ("key_scale", "H", "'H'"),
        ("time_signature", "5", "'5'"),
    ],
)
async def test_what_the_engine_cannot_do_is_refused_before_it_is_accepted(
    http: httpx.AsyncClient, field: str, value: object, reason: str
) -> None:
    answer = await http.post("/release_task", json={"prompt": "calm piano", field: value, "batch_size": 1})
    assert answer.status_code in {400, 422}
    detail = answer.json()["detail"]
    assert field in detail
    assert reason in detail


@pytest.mark.parametrize("prompt", ["calm piano\n", "爵士乐", " happy\npop "])
async def test_blanks_of_a_prompt_are_no_fault(http: httpx.AsyncClient, prompt: str) -> None:
    answer = await http.post("/generate", json={"prompt": prompt, "duration": 1})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["/generate", "/v1/jobs", "/release_task", "/v1/music"])
async def test_a_prompt_without_letters_is_refused_before_it_is_accepted(http: httpx.AsyncClient, path: str) -> None:
    named = {"/v1/jobs": "input"}.get(path, "prompt")
    body = {named: ".....", **({"model": "music"} if path == "/v1/jobs" else {})}
    answer = await http.post(path, json=body)
    assert answer.status_code in {400, 422}
    assert "at least 5 letters" in answer.text


async def _entry(http: httpx.AsyncClient, task: str) -> dict[str, Any]:
    entry: dict[str, Any] = (await http.post("/query_result", json={"task_id_list": [task]})).json()["data"][0]
    return entry
