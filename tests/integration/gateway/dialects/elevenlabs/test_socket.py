"""ElevenLabs' `stream-input` WebSocket against the real programs, by hand and by their own Python package."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from elevenlabs import ElevenLabs
from elevenlabs.core.api_error import ApiError

from tests.support import fleets
from tests.support.fleets import Stack
from tests.support.tls import tls_front
from tests.support.tone import tone_pcm

PATH = "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream-input"
LONG = "This text is long enough to be asked for at once, because it really has a good deal more than a hundred and twenty characters. "

stack = fleets.stack("tone,speech", 2)
http = fleets.http()


class Talk:
    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def say(self, text: str, **more: Any) -> None:
        await self.ws.send_json({"text": text, **more})

    async def next(self, within_s: float = 10.0) -> dict[str, Any]:
        return dict(json.loads(await self.ws.receive_str(timeout=within_s)))

    async def sound(self, seconds: float) -> list[dict[str, Any]]:
        """Messages with so much of the tone."""
        told: list[dict[str, Any]] = []
        while len(sound(told)) < seconds * 48_000:
            told.append(await self.next())
        return told

    async def closed(self, within_s: float = 10.0) -> int:
        """The code that the server closed with."""
        message = await self.ws.receive(timeout=within_s)
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return int(message.data)

    async def rest(self) -> list[dict[str, Any]]:
        """Every message up to the last one; the server must close well behind it."""
        told = []
        async with asyncio.timeout(20):
            while not (message := await self.next()).get("isFinal"):
                told.append(message)
        assert message == {"audio": None, "isFinal": True}
        assert await self.closed() == 1000
        return told


def sound(told: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(message["audio"]) for message in told)


@pytest.fixture
async def tone(http: aiohttp.ClientSession) -> AsyncIterator[Talk]:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000") as ws:
        talk = Talk(ws)
        await talk.say(" ", params={"seconds": 0.3}, voice_settings=None)
        yield talk


async def test_text_is_said_when_the_schedule_says_so_and_the_rest_at_the_end(tone: Talk) -> None:
    assert 120 < len(LONG) < 160
    for start in range(0, len(LONG), 10):
        await tone.say(LONG[start : start + 10])
    told = await tone.sound(0.3)
    assert {each: told[0][each] for each in ("isFinal", "alignment", "normalizedAlignment")} == {
        "isFinal": None,
        "alignment": None,
        "normalizedAlignment": None,
    }
    await tone.say(LONG)
    await tone.say("")
    told += await tone.rest()
    assert sound(told) == tone_pcm(0.3) * 2
    assert len({message["job"] for message in told}) == 2


async def test_a_flush_asks_for_what_there_is_and_the_socket_stays(tone: Talk) -> None:
    for text in ("Short. ", "Shorter. "):
        await tone.say(text, flush=True)
        assert sound(await tone.sound(0.3)) == tone_pcm(0.3)
    await tone.say("")
    assert await tone.rest() == []


async def test_a_trigger_asks_for_fifty_characters_and_no_fewer(tone: Talk) -> None:
    await tone.say("Not enough to begin. ", try_trigger_generation=True)
    await tone.say("But this together with what was there before is enough. ", try_trigger_generation=True)
    assert sound(await tone.sound(0.3)) == tone_pcm(0.3)
    await tone.say("")
    assert await tone.rest() == []


async def test_in_auto_mode_every_text_is_asked_for(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000&auto_mode=true") as ws:
        talk = Talk(ws)
        await talk.say(" ", params={"seconds": 0.2})
        for text in ("One. ", "Two. ", " "):
            await talk.say(text)
        assert sound(await talk.sound(0.4)) == tone_pcm(0.2) * 2
        await talk.say("")
        assert await talk.rest() == []


async def test_characters_fill_their_chunks_and_are_the_text(http: aiohttp.ClientSession) -> None:
    text = "Hello there, dear listener. This is the second sentence of it, and that is all. "
    async with http.ws_connect(f"{PATH}?output_format=pcm_22050&sync_alignment=true") as ws:
        talk = Talk(ws)
        await talk.say(" ")
        await talk.say(text)
        await talk.say("")
        told = await talk.rest()
    assert "".join("".join(message["alignment"]["chars"]) for message in told) == text
    at_ms = 0.0
    for message in told:
        alignment = message["alignment"]
        starts, durations = alignment["charStartTimesMs"], alignment["charDurationsMs"]
        assert starts[0] == 0
        assert starts == sorted(starts)
        length_ms = len(base64.b64decode(message["audio"])) / 2 / 22.05
        assert abs(starts[-1] + durations[-1] - length_ms) <= 2
        at_ms += length_ms
    assert at_ms > 3000
    assert len(told) > 1


@pytest.mark.parametrize("output_format", ["mp3_44100_64", "ulaw_8000", "opus_48000_32", "mp3_44100"])
async def test_other_formats_are_of_the_right_kind(http: aiohttp.ClientSession, output_format: str) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format={output_format}") as ws:
        talk = Talk(ws)
        await talk.say(" ", params={"seconds": 0.5})
        await talk.say("Hello. ", flush=True)
        await talk.say("")
        data = sound(await talk.rest())
    codec = output_format.partition("_")[0]
    if codec == "ulaw":
        assert len(data) == 4000
    else:
        assert data.startswith(b"OggS") if codec == "opus" else data[:3] == b"ID3" or data[0] == 0xFF


@pytest.mark.parametrize(
    ("query", "message", "error", "words"),
    [
        ("", "no JSON", "invalid_input_message", "Could not parse input message"),
        ("", b"\x00\xff", "invalid_input_message", "Could not parse input message"),
        ("", "{}", "invalid_input_message", "text: is required"),
        ("", '{"text": 5}', "invalid_input_message", "text: "),
        ("", '{"text":" ","generation_config":{"chunk_length_schedule":[5]}}', "invalid_input_message", "chunk_length"),
        ("", '{"text":" ","params":{"secconds":5}}', "invalid_input_message", "did you mean 'seconds'?"),
        ("&output_format=mp3_1_2", '{"text":" "}', "invalid_input_message", "output_format: 'mp3_1_2' is not one of"),
        ("&inactivity_timeout=0", '{"text":" "}', "invalid_input_message", "inactivity_timeout: must be"),
        ("&auto_mode=maybe", '{"text":" "}', "invalid_input_message", "auto_mode: must be true or false"),
    ],
)
async def test_what_is_wrong_is_told_and_the_socket_closed(
    http: aiohttp.ClientSession, query: str, message: str | bytes, error: str, words: str
) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone{query}") as ws:
        talk = Talk(ws)
        await (ws.send_bytes(message) if isinstance(message, bytes) else ws.send_str(message))
        told = await talk.next()
        assert (told["error"], told["code"]) == (error, 1008)
        assert words in told["message"]
        assert await talk.closed() == 1008


async def test_a_generation_that_fails_is_told_and_the_socket_closed(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000") as ws:
        talk = Talk(ws)
        await talk.say(" ", params={"seconds": 1, "fault": {"kind": "raise", "at_block": 0}})
        await talk.say("Fail. ", flush=True)
        told = await talk.next()
        assert (told["error"], told["code"]) == ("engine_failed", 1011)
        assert await talk.closed() == 1011


async def test_silence_closes_the_socket_in_their_words(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&inactivity_timeout=1") as ws:
        talk = Talk(ws)
        await talk.say(" ")
        assert await talk.next() == {
            "message": "Have not received a new text input within the timeout of 1.0 seconds. Streaming input "
            "terminated. Please make sure to either feed the input in the timely manner, or to send the end of input "
            'text (empty string "") when done.',
            "error": "input_timeout_exceeded",
            "code": 1008,
        }
        assert await talk.closed() == 1008


@pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning")
async def test_their_own_package_speaks_as_it_writes(
    http: aiohttp.ClientSession, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoken(front: str) -> bytes:
        client = ElevenLabs(api_key="anything", base_url=front)
        pieces = client.text_to_speech.convert_realtime(
            "JBFqnCBsd6RMkjVDRZzb",
            text=iter(["Hello, ", "this is written while ", "it is being spoken. ", "All of it ", "is heard."]),
            model_id="eleven_flash_v2_5",
            output_format="pcm_22050",
        )
        return b"".join(pieces)

    def refused(front: str) -> None:
        client = ElevenLabs(api_key="anything", base_url=front)
        list(client.text_to_speech.convert_realtime("no such voice", text=iter(["Hello."])))

    async with tls_front(stack.url, tmp_path) as (front, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        pcm = await asyncio.to_thread(spoken, front)
        assert 2.5 < len(pcm) / 2 / 22_050 < 8
        with pytest.raises(ApiError) as raised:
            await asyncio.to_thread(refused, front)
    assert raised.value.body["error"] == "voice_id_does_not_exist"
