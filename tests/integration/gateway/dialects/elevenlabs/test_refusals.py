"""Refusals, in the terms of the `elevenlabs` package."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import elevenlabs
import httpx
import pytest
from elevenlabs.core.api_error import ApiError

from bus.access.keys import Keys, Limits, make
from bus.jobs.client import open_bus
from tests.support.doors import STEADY, tone
from tests.support.elevenlabs_client import GEORGE, NATIVE, ours
from tests.support.fleets import Stack

WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"text": 7}, ["body", "text"]),
    ({"text": ""}, ["body", "text"]),
    ({"seed": 4_294_967_296}, ["body", "seed"]),
    ({"seed": -1}, ["body", "seed"]),
    ({"voice_settings": {"speed": "fast"}}, ["body", "voice_settings", "speed"]),
    ({"voice_settings": {"speed": 9}}, ["body", "voice_settings", "speed"]),
    ({"voice_settings": {"stability": []}}, ["body", "voice_settings", "stability"]),
    ({"previous_request_ids": ["a", "b", "c", "d"]}, ["body", "previous_request_ids"]),
    ({"apply_text_normalization": "perhaps"}, ["body", "apply_text_normalization"]),
    ({"output_format": "mp3_1_1"}, ["query", "output_format"]),
    ({"optimize_streaming_latency": 5}, ["query", "optimize_streaming_latency"]),
]


async def test_a_failure_before_the_first_block_has_a_status_of_its_own(
    aclient: elevenlabs.AsyncElevenLabs,
) -> None:
    options = {**ours(fault={"kind": "raise"}), "max_retries": 0}
    for call in (aclient.text_to_speech.stream, aclient.text_to_speech.stream_with_timestamps):
        with pytest.raises(ApiError) as caught:
            await anext(call(GEORGE, text="tone", model_id="tone", output_format=NATIVE, request_options=options))
        assert (caught.value.status_code, caught.value.body["detail"]["status"]) == (502, "engine_failed")


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"voice_id": "unknown"}, 404, "voice_not_found"),
        ({"text": "y" * 200_001}, 400, "max_character_limit_exceeded"),
        ({"model_id": "nope"}, 404, "model_not_found"),
    ],
)
def test_an_error_is_an_api_error_with_its_status_and_name(
    client: elevenlabs.ElevenLabs, fields: dict[str, Any], status: int, detail: str
) -> None:
    call: dict[str, Any] = {"voice_id": GEORGE, "text": "Hello.", **fields}
    with pytest.raises(ApiError) as caught:
        list(client.text_to_speech.convert(**call))
    assert (caught.value.status_code, caught.value.body["detail"]["status"]) == (status, detail)


@pytest.mark.parametrize(("fields", "place"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_field_is_unprocessable_and_its_place_is_named(
    client: elevenlabs.ElevenLabs, fields: dict[str, Any], place: list[str]
) -> None:
    call: dict[str, Any] = {"text": "Hello.", **fields}
    with pytest.raises(elevenlabs.UnprocessableEntityError) as caught:
        list(client.text_to_speech.convert(GEORGE, **call))
    assert [each["loc"] for each in caught.value.body["detail"]] == [place]


async def test_a_body_that_is_not_json_is_unprocessable(http: aiohttp.ClientSession) -> None:
    for body, kind, place in ((b"{", "json_invalid", ["body"]), (b"{}", "missing", ["body", "text"])):
        async with http.post(f"/v1/text-to-speech/{GEORGE}", data=body) as answer:
            assert answer.status == 422
            (detail,) = (await answer.json())["detail"]
        assert (detail["type"], detail["loc"]) == (kind, place)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({}, ["body", "prompt"]),
        ({"prompt": "x", "composition_plan": {"sections": []}}, ["body", "prompt"]),
        ({"prompt": "x", "music_length_ms": 2999}, ["body", "music_length_ms"]),
        ({"prompt": "x", "music_length_ms": 600_001}, ["body", "music_length_ms"]),
        ({"composition_plan": {"sections": []}}, ["body", "composition_plan"]),
        ({"composition_plan": {"chunks": [{"duration_ms": 120_000}] * 6}}, ["body", "composition_plan"]),
        ({"prompt": " "}, ["body", "prompt"]),
    ],
)
async def test_music_refuses_invalid_fields(
    http: aiohttp.ClientSession, fields: dict[str, Any], place: list[str]
) -> None:
    async with http.post("/v1/music", json={"model_id": "tone", **fields}) as answer:
        assert answer.status == 422, await answer.text()
        assert [each["loc"] for each in (await answer.json())["detail"]] == [place]


async def test_load_of_ours_is_system_busy_with_a_retry_after(stack: Stack) -> None:
    async with aiohttp.ClientSession(stack.url) as http:
        body = tone(params={"fault": {"kind": "oom"}})
        async with http.post(
            f"/v1/text-to-speech/{GEORGE}?output_format={NATIVE}",
            json={"text": "x", "model_id": "tone", "params": body["params"]},
        ) as answer:
            assert (answer.status, (await answer.json())["detail"]["status"]) == (429, "system_busy")
            assert int(answer.headers["Retry-After"]) > 0


async def test_a_wrong_key_is_an_invalid_api_key(stack: Stack, http: aiohttp.ClientSession) -> None:
    wrong = make("acme", Limits(), time.time())[1]
    async with httpx.AsyncClient(timeout=20) as transport:
        client = elevenlabs.AsyncElevenLabs(base_url=stack.url, api_key=wrong, httpx_client=transport)
        with pytest.raises(ApiError) as caught:
            await anext(client.text_to_speech.convert(GEORGE, text="Hello."))
    assert (caught.value.status_code, caught.value.body["detail"]["status"]) == (401, "invalid_api_key")


async def test_each_limit_of_a_key_has_a_name_of_its_own(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with open_bus(stack.settings, "test") as bus:
        keys = Keys(bus)
        _, narrow = await keys.create("acme", Limits(concurrent_jobs=1))
        _, slow = await keys.create("acme", Limits(requests_per_s=0.01, burst=1))
        _, spent = await keys.create("acme", Limits(audio_s_per_day=0.001))
    endless = {"text": "x", "model_id": "tone", "params": {"seconds": 600, **STEADY}}
    short = {"text": "y", "model_id": "tone", "params": {"seconds": 0.1}}
    async with _posted(http, narrow, endless) as first:
        assert first.status == 200
        assert first.headers["current-concurrent-requests"] == first.headers["maximum-concurrent-requests"] == "1"
        async with _posted(http, narrow, short) as second:
            assert (second.status, await _named(second)) == (429, "too_many_concurrent_requests")
            assert second.headers["current-concurrent-requests"] == second.headers["maximum-concurrent-requests"] == "1"
            assert int(second.headers["Retry-After"]) > 0
    for key, status, name in ((slow, 429, "rate_limit_exceeded"), (spent, 401, "quota_exceeded")):
        async with _posted(http, key, short) as answer:
            assert answer.status == 200
            await answer.read()
        async with asyncio.timeout(30):
            while (answered := await _outcome(http, key, short)) == (200, ""):
                await asyncio.sleep(0.02)
        assert answered == (status, name)


@asynccontextmanager
async def _posted(http: aiohttp.ClientSession, key: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response to a speech request, sent once the gateway knows the key."""
    async with asyncio.timeout(30):
        while (await http.get("/v1/jobs", headers={"xi-api-key": key})).status != 200:
            await asyncio.sleep(0.02)
    url = f"/v1/text-to-speech/{GEORGE}/stream?output_format={NATIVE}"
    async with http.post(url, json=body, headers={"xi-api-key": key}) as answer:
        yield answer
        answer.close()


async def _outcome(http: aiohttp.ClientSession, key: str, body: dict[str, Any]) -> tuple[int, str]:
    """The status of a response, and the name of its error or ""."""
    async with _posted(http, key, {**body, "seed": random.getrandbits(32)}) as answer:
        return answer.status, "" if answer.status == 200 else await _named(answer)


async def _named(answer: aiohttp.ClientResponse) -> str:
    return str((await answer.json())["detail"]["status"])
