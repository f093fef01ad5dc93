"""Pauses in plain text, as ElevenLabs' API has them, and SSML over its socket."""

import json

import aiohttp
import elevenlabs
import pytest

from tests.support.elevenlabs_client import GEORGE

PCM_BYTES_PER_S = 2 * 22_050
FORMAT = "pcm_22050"


def seconds(client: elevenlabs.ElevenLabs, text: str) -> float:
    pieces = client.text_to_speech.convert(GEORGE, text=text, model_id="speech", output_format=FORMAT)
    return sum(map(len, pieces)) / PCM_BYTES_PER_S


def test_a_break_in_plain_text_is_a_pause(client: elevenlabs.ElevenLabs) -> None:
    longer = seconds(client, 'Hello there. <break time="2.0s" /> Good morning.')
    assert 1.5 < longer - seconds(client, "Hello there. Good morning.") < 2.1


@pytest.mark.parametrize(
    ("time", "reason"), [("3.5s", "'3.5s' is over the limit of 3 s"), ("soon", "'soon' is no time such as 1.5s")]
)
async def test_a_wrong_break_is_refused_before_it_is_accepted(
    http: aiohttp.ClientSession, time: str, reason: str
) -> None:
    body = {"text": f'Hi <break time="{time}" /> you', "model_id": "speech"}
    async with http.post(f"/v1/text-to-speech/{GEORGE}", json=body) as answer:
        assert answer.status == 422
        assert reason in await answer.text()
        assert "antiphon-job" not in answer.headers


@pytest.mark.parametrize(
    "document", ["<speak>Hello there. <break time='1.5s'/> Good morning. " + "Word " * 60 + "</speak>"]
)
async def test_a_document_over_the_socket_is_one_generation(http: aiohttp.ClientSession, document: str) -> None:
    path = f"/v1/text-to-speech/{GEORGE}/stream-input?model_id=speech&output_format={FORMAT}"
    received = []
    async with http.ws_connect(path) as socket:
        for start in range(0, len(document), 40):
            await socket.send_json({"text": document[start : start + 40]})
        await socket.send_json({"text": ""})
        async for message in socket:
            received.append(json.loads(message.data))
            if received[-1].get("isFinal") or "error" in received[-1]:
                break
    assert not [message for message in received if "error" in message]
    spoken = "".join("".join((message.get("alignment") or {}).get("chars", [])) for message in received)
    assert spoken.strip() == document
