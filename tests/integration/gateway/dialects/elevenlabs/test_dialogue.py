"""ElevenLabs' text to dialogue, by their package and with the messages of LiveKit Agents."""

import asyncio
import base64
import json
from typing import Any

import aiohttp
import elevenlabs
import httpx
import pytest
from elevenlabs.core.api_error import ApiError

from tests.support.doors import STEADY, state_of
from tests.support.elevenlabs_client import GEORGE, NATIVE, ours
from tests.support.tone import tone_pcm

TURNS = [elevenlabs.DialogueInput(text=text, voice_id=GEORGE) for text in ("Who is there?", "It is me.", "Come in.")]
SOCKET = "/v1/text-to-dialogue/multi-stream-input?model_id=tone&output_format=pcm_24000&sync_alignment=true"
WITHIN_S = 30.0


async def test_the_turns_are_one_sound(aclient: elevenlabs.AsyncElevenLabs) -> None:
    for call in (aclient.text_to_dialogue.convert, aclient.text_to_dialogue.stream):
        pieces = call(inputs=TURNS, model_id="tone", output_format=NATIVE, request_options=ours(seconds=0.3))
        assert b"".join([piece async for piece in pieces]) == tone_pcm(0.3) * 3


async def test_the_turns_are_one_file_and_each_is_a_job(http: aiohttp.ClientSession) -> None:
    body = {"inputs": [{"text": "One.", "voice_id": "en-gb"}, {"text": "Zwei.", "voice_id": "de"}]}
    async with http.post("/v1/text-to-dialogue?output_format=wav_22050", json=body) as answer:
        assert answer.status == 200
        sound = await answer.read()
        jobs = answer.headers["Antiphon-Job"].split(", ")
    assert sound.count(b"RIFF") == 1
    voices, frames = [], 0
    for job in jobs:
        async with http.get(f"/v1/jobs/{job}") as answer:
            shown = await answer.json()
        voices.append(shown["voice"])
        frames += shown["frames"]
    assert voices == ["en-gb", "de"]
    assert len(sound) == 44 + 2 * frames


@pytest.mark.parametrize(
    ("inputs", "status", "words"),
    [
        ([], 422, "inputs"),
        ([{"text": "", "voice_id": "en"}], 422, "inputs"),
        ([{"text": "Hi.", "voice_id": "en"}, {"text": " ", "voice_id": "en"}], 422, "inputs"),
        ([{"text": "Hi.", "voice_id": "nobody here"}], 404, "voice_not_found"),
        ([{"text": "Hi.", "voice_id": "en"}] * 10_000, 422, "length <= 100"),
        ([{"text": "a" * 200_001, "voice_id": "en"}], 400, "max_character_limit_exceeded"),
    ],
    ids=range(6),
)
async def test_a_script_that_cannot_be_spoken_is_refused_before_anything_is_made(
    http: aiohttp.ClientSession, inputs: list[dict[str, str]], status: int, words: str
) -> None:
    async with http.post("/v1/text-to-dialogue", json={"inputs": inputs}) as answer:
        assert answer.status == status
        text = await answer.text()
    assert words in text
    assert len(text) < 1000


async def test_a_turn_that_fails_first_has_a_status_and_a_later_one_cuts_the_body(
    aclient: elevenlabs.AsyncElevenLabs,
) -> None:
    for at_block in (0, 2):
        options = {**ours(seconds=1, fault={"kind": "raise", "at_block": at_block}), "max_retries": 0}
        with pytest.raises(ApiError if at_block == 0 else httpx.RemoteProtocolError):
            _ = [
                piece
                async for piece in aclient.text_to_dialogue.stream(
                    inputs=TURNS, model_id="tone", output_format=NATIVE, request_options=options
                )
            ]


async def test_a_key_that_stood_for_another_dialogue_is_refused_before_the_first_turn(
    http: aiohttp.ClientSession,
) -> None:
    async def post(*texts: str) -> tuple[int, bytes]:
        inputs = [{"text": text, "voice_id": "en"} for text in texts]
        headers = {"Idempotency-Key": "once"}
        url = f"/v1/text-to-dialogue?output_format={NATIVE}"
        body = {"inputs": inputs, "model_id": "tone", "params": {"seconds": 0.1}}
        async with http.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.read()

    assert await post("One.", "Two.") == (200, tone_pcm(0.1) * 2)
    assert await post("One.", "Two.") == (200, tone_pcm(0.1) * 2)
    status, body = await post("One.", "Other.")
    assert status == 409, body


async def test_a_client_that_hangs_up_leaves_the_turns(http: aiohttp.ClientSession) -> None:
    body = {"inputs": [turn.dict() for turn in TURNS], "model_id": "tone", "params": {"seconds": 600, **STEADY}}
    async with http.post("/v1/text-to-dialogue?output_format=pcm_24000", json=body) as answer:
        await answer.content.readany()
        job = answer.headers["Antiphon-Job"].split(", ")[0]
    async with asyncio.timeout(WITHIN_S):
        while await state_of(http, job) != "cancelled":
            await asyncio.sleep(0.01)


async def received(ws: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """Every message up to the last one of a context."""
    messages: list[dict[str, Any]] = []
    async with asyncio.timeout(WITHIN_S):
        while not messages or not messages[-1].get("is_final"):
            messages.append(json.loads(await ws.receive_str()))
    return messages


async def test_the_socket_of_dialogues_takes_what_livekit_sends(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(SOCKET) as ws:
        await ws.send_json({"context_id": "a", "voices": [GEORGE], "params": {"seconds": 0.3}})
        await ws.send_json({"context_id": "a", "inputs": [{"text": "Hello there. ", "voice_id": GEORGE}]})
        await ws.send_json({"context_id": "a", "keep_alive": True})
        await ws.send_json({"context_id": "a", "inputs": [{"text": "", "voice_id": GEORGE}], "flush": True})
        await ws.send_json({"context_id": "a", "close_context": True})
        messages = await received(ws)
    assert b"".join(base64.b64decode(each["audio"] or "") for each in messages) == tone_pcm(0.3)
    assert {each["context_id"] for each in messages} == {"a"}
    assert messages[-1] == {"audio": None, "is_final": True, "context_id": "a"}


async def test_on_the_socket_each_voice_speaks_its_own_texts(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(SOCKET.replace("tone", "speech")) as ws:
        await ws.send_json({"context_id": "a", "voices": ["en-gb", "de"]})
        inputs = [{"text": "Good morning. ", "voice_id": "en-gb"}, {"text": "Guten Morgen. ", "voice_id": "de"}]
        await ws.send_json({"context_id": "a", "inputs": inputs, "flush": True})
        await ws.send_json({"context_id": "a", "close_context": True})
        messages = await received(ws)
    alignments = [each["alignment"] for each in messages if each.get("alignment")]
    assert set(alignments[0]) == {"char_start_times_ms", "char_durations_ms", "chars"}
    assert "".join("".join(each["chars"]) for each in alignments) == "Good morning. Guten Morgen. "
    voices = []
    for job in dict.fromkeys(each["job"] for each in messages if "job" in each):
        async with http.get(f"/v1/jobs/{job}") as answer:
            voices.append((await answer.json())["voice"])
    assert voices == ["en-gb", "de"]
