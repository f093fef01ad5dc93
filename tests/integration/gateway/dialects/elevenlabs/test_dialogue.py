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

from bus.script import PAUSE_S
from tests.support.doors import SPEECH, state_of, wav_pcm
from tests.support.elevenlabs_client import GEORGE
from tests.support.tone import tone_pcm

TURNS = [elevenlabs.DialogueInput(text=text, voice_id=GEORGE) for text in ("Who is there?", "It is me.", "Come in.")]
SOCKET = "/v1/text-to-dialogue/multi-stream-input?model_id=tone&output_format=pcm_24000&sync_alignment=true"
WITHIN_S = 30.0


async def test_the_turns_are_one_sound(aclient: elevenlabs.AsyncElevenLabs, http: aiohttp.ClientSession) -> None:
    alone = []
    for turn in TURNS:
        async with http.post(SPEECH, json={"input": turn.text, "response_format": "pcm"}) as answer:
            alone.append(await answer.read())
    pause = bytes(2 * int(PAUSE_S * 22_050))
    for call in (aclient.text_to_dialogue.convert, aclient.text_to_dialogue.stream):
        pieces = call(inputs=TURNS, output_format="pcm_22050")
        assert b"".join([piece async for piece in pieces]) == pause.join(alone)


async def test_the_turns_are_one_file_and_one_job(http: aiohttp.ClientSession) -> None:
    body = {"inputs": [{"text": "One.", "voice_id": "en-gb"}, {"text": "Zwei.", "voice_id": "de"}]}
    async with http.post("/v1/text-to-dialogue?output_format=wav_22050", json=body) as answer:
        assert answer.status == 200
        sound = await answer.read()
        assert answer.headers["character-cost"] == "9"
        job = answer.headers["Antiphon-Job"]
        assert answer.headers["request-id"] == job
    assert sound.count(b"RIFF") == 1
    async with http.get(f"/v1/jobs/{job}") as answer:
        shown = await answer.json()
    assert shown["engine"] == {"turns": 2, "voices": ["en-gb", "de"]}
    assert len(wav_pcm(sound)) == 2 * shown["frames"]


async def test_their_voices_become_different_ones_of_ours(http: aiohttp.ClientSession) -> None:
    sarah = "EXAVITQu4vr4xnSDxMaL"
    inputs = [{"text": "One.", "voice_id": voice} for voice in (GEORGE, sarah, GEORGE, "default")]
    async with http.post("/v1/text-to-dialogue", json={"inputs": inputs, "language_code": "de"}) as answer:
        assert answer.status == 200
        await answer.read()
        job = answer.headers["Antiphon-Job"]
    async with http.get(f"/v1/jobs/{job}") as answer:
        voices = (await answer.json())["engine"]["voices"]
    assert len(voices) == len(set(voices)) >= 1
    assert voices[0].startswith("de")


@pytest.mark.parametrize(
    ("inputs", "status", "words"),
    [
        ([], 422, "inputs"),
        ([{"text": "", "voice_id": "en"}], 422, "inputs"),
        ([{"text": "Hi.", "voice_id": "en"}, {"text": " ", "voice_id": "en"}], 422, "inputs"),
        ([{"text": "Hi.", "voice_id": "nobody here"}], 404, "voice_not_found"),
        ([{"text": "Hi.", "voice_id": "en"}] * 10_000, 422, "length <= 100"),
        ([{"text": "a" * 200_001, "voice_id": "en"}], 400, "max_character_limit_exceeded"),
        ([{"text": "a" * 100_001, "voice_id": "en"}] * 2, 400, "inputs has 200003 characters"),
        ([{"text": "Hi.", "voice_id": "en"}, {"text": '<break time="1h"/>', "voice_id": "en"}], 422, '"1","text"'),
        ([{"text": "Hi.", "voice_id": "en"}, {"text": "Hi.", "voice_id": "nobody here"}], 404, "inputs.1.voice_id: "),
    ],
    ids=range(9),
)
async def test_a_script_that_cannot_be_spoken_is_refused_before_anything_is_made(
    http: aiohttp.ClientSession, inputs: list[dict[str, str]], status: int, words: str
) -> None:
    async with http.post("/v1/text-to-dialogue", json={"inputs": inputs}) as answer:
        assert answer.status == status
        text = await answer.text()
    assert words in text
    assert len(text) < 1000


async def test_a_turn_that_is_refused_by_the_engine_has_a_status_and_one_that_fails_later_cuts_the_body(
    aclient: elevenlabs.AsyncElevenLabs,
) -> None:
    async def converted(turn: elevenlabs.DialogueInput) -> None:
        pieces = aclient.text_to_dialogue.stream(
            inputs=[*TURNS, turn], output_format="pcm_22050", request_options={"max_retries": 0}
        )
        _ = [piece async for piece in pieces]

    with pytest.raises(ApiError) as refused:
        await converted(elevenlabs.DialogueInput(text="<speak><audio src='x'/></speak>", voice_id="en"))
    assert refused.value.status_code == 422
    assert refused.value.body["detail"][0]["loc"] == ["body", "inputs", "3", "text"]
    with pytest.raises(httpx.RemoteProtocolError):
        await converted(elevenlabs.DialogueInput(text="ᏣᎳᎩ", voice_id="en"))


async def test_a_model_that_does_not_speak_takes_no_dialogue(http: aiohttp.ClientSession) -> None:
    inputs = [{"text": "Hi.", "voice_id": GEORGE}]
    async with http.post("/v1/text-to-dialogue", json={"inputs": inputs, "model_id": "tone"}) as answer:
        assert answer.status == 422
        (error,) = (await answer.json())["detail"]
    assert error["loc"] == ["body", "inputs"]
    assert error["msg"] == "'tone' takes no script, only an input"


async def test_a_key_that_stood_for_another_dialogue_is_refused_before_the_first_turn(
    http: aiohttp.ClientSession,
) -> None:
    async def post(*texts: str) -> tuple[int, bytes]:
        inputs = [{"text": text, "voice_id": "en"} for text in texts]
        headers = {"Idempotency-Key": "once"}
        url = "/v1/text-to-dialogue?output_format=pcm_22050"
        async with http.post(url, json={"inputs": inputs}, headers=headers) as answer:
            return answer.status, await answer.read()

    first = await post("One.", "Two.")
    assert first[0] == 200
    assert await post("One.", "Two.") == first
    status, body = await post("One.", "Other.")
    assert status == 409, body


async def test_a_client_that_hangs_up_leaves_the_job(http: aiohttp.ClientSession) -> None:
    inputs = [{"text": f"This is turn number {n}, and there are many more. " * 20, "voice_id": "en"} for n in range(7)]
    async with http.post("/v1/text-to-dialogue?output_format=pcm_22050", json={"inputs": inputs}) as answer:
        await answer.content.readany()
        job = answer.headers["Antiphon-Job"]
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
