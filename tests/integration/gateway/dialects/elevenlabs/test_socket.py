"""ElevenLabs' `stream-input` WebSocket against the real programs, by a plain client and by their Python package."""

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
LONG = "This text is long enough to be played at once, because it really has a good deal more than a hundred and twenty characters. "

stack = fleets.stack("tone,speech", 2)
http = fleets.http()


class SocketClient:
    """One socket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, text: str, **more: Any) -> None:
        await self.ws.send_json({"text": text, **more})

    async def receive(self, within_s: float = 10.0) -> dict[str, Any]:
        return dict(json.loads(await self.ws.receive_str(timeout=within_s)))

    async def receive_audio(self, seconds: float) -> list[dict[str, Any]]:
        """The next messages, until they have at least `seconds` of the tone."""
        messages: list[dict[str, Any]] = []
        while len(audio_of(messages)) < seconds * 48_000:
            messages.append(await self.receive())
        return messages

    async def closed(self, within_s: float = 10.0) -> int:
        """The code that the server closed with."""
        message = await self.ws.receive(timeout=within_s)
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return int(message.data)

    async def rest(self) -> list[dict[str, Any]]:
        """Every message up to the last one, after which the server must close with code 1000."""
        messages = []
        async with asyncio.timeout(20):
            while not (message := await self.receive()).get("isFinal"):
                messages.append(message)
        assert message == {"audio": None, "isFinal": True}
        assert await self.closed() == 1000
        return messages


def audio_of(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(message["audio"]) for message in messages)


@pytest.fixture
async def tone(http: aiohttp.ClientSession) -> AsyncIterator[SocketClient]:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000") as ws:
        client = SocketClient(ws)
        await client.send(" ", params={"seconds": 0.3}, voice_settings=None)
        yield client


async def test_the_schedule_starts_generations_and_the_end_starts_the_last_one(tone: SocketClient) -> None:
    assert 120 < len(LONG) < 160
    for start in range(0, len(LONG), 10):
        await tone.send(LONG[start : start + 10])
    messages = await tone.receive_audio(0.3)
    assert {each: messages[0][each] for each in ("isFinal", "alignment", "normalizedAlignment")} == {
        "isFinal": None,
        "alignment": None,
        "normalizedAlignment": None,
    }
    await tone.send(LONG)
    await tone.send("")
    messages += await tone.rest()
    assert audio_of(messages) == tone_pcm(0.3) * 2
    assert len({message["job"] for message in messages}) == 2


async def test_a_flush_starts_a_generation_and_the_socket_stays_open(tone: SocketClient) -> None:
    for text in ("Short. ", "Shorter. "):
        await tone.send(text, flush=True)
        assert audio_of(await tone.receive_audio(0.3)) == tone_pcm(0.3)
    await tone.send("")
    assert await tone.rest() == []


async def test_a_trigger_starts_a_generation_of_at_least_fifty_characters(tone: SocketClient) -> None:
    await tone.send("Not enough to begin. ", try_trigger_generation=True)
    await tone.send("But this together with what was there before is enough. ", try_trigger_generation=True)
    assert audio_of(await tone.receive_audio(0.3)) == tone_pcm(0.3)
    await tone.send("")
    assert await tone.rest() == []


async def test_in_auto_mode_every_text_starts_a_generation(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000&auto_mode=true") as ws:
        client = SocketClient(ws)
        await client.send(" ", params={"seconds": 0.2})
        for text in ("One. ", "Two. ", " "):
            await client.send(text)
        assert audio_of(await client.receive_audio(0.4)) == tone_pcm(0.2) * 2
        await client.send("")
        assert await client.rest() == []


async def test_characters_fill_their_chunks_and_are_the_text(http: aiohttp.ClientSession) -> None:
    text = "Hello there, dear listener. This is the second sentence of it, and that is all. "
    async with http.ws_connect(f"{PATH}?output_format=pcm_22050&sync_alignment=true") as ws:
        client = SocketClient(ws)
        await client.send(" ")
        await client.send(text)
        await client.send("")
        messages = await client.rest()
    assert "".join("".join(message["alignment"]["chars"]) for message in messages) == text
    at_ms = 0.0
    for message in messages:
        alignment = message["alignment"]
        starts, durations = alignment["charStartTimesMs"], alignment["charDurationsMs"]
        assert starts[0] == 0
        assert starts == sorted(starts)
        length_ms = len(base64.b64decode(message["audio"])) / 2 / 22.05
        assert abs(starts[-1] + durations[-1] - length_ms) <= 2
        at_ms += length_ms
    assert at_ms > 3000
    assert len(messages) > 1


@pytest.mark.parametrize("output_format", ["mp3_44100_64", "ulaw_8000", "opus_48000_32", "mp3_44100"])
async def test_other_formats_are_of_the_right_kind(http: aiohttp.ClientSession, output_format: str) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format={output_format}") as ws:
        client = SocketClient(ws)
        await client.send(" ", params={"seconds": 0.5})
        await client.send("Hello. ", flush=True)
        await client.send("")
        data = audio_of(await client.rest())
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
async def test_a_wrong_message_gets_an_error_and_closes_the_socket(
    http: aiohttp.ClientSession, query: str, message: str | bytes, error: str, words: str
) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone{query}") as ws:
        client = SocketClient(ws)
        await (ws.send_bytes(message) if isinstance(message, bytes) else ws.send_str(message))
        failure = await client.receive()
        assert (failure["error"], failure["code"]) == (error, 1008)
        assert words in failure["message"]
        assert await client.closed() == 1008


async def test_a_failed_generation_gets_an_error_and_closes_the_socket(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000") as ws:
        client = SocketClient(ws)
        await client.send(" ", params={"seconds": 1, "fault": {"kind": "raise", "at_block": 0}})
        await client.send("Fail. ", flush=True)
        failure = await client.receive()
        assert (failure["error"], failure["code"]) == ("engine_failed", 1011)
        assert await client.closed() == 1011


async def test_an_idle_socket_is_closed_with_their_message(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&inactivity_timeout=1") as ws:
        client = SocketClient(ws)
        await client.send(" ")
        assert await client.receive() == {
            "message": "Have not received a new text input within the timeout of 1.0 seconds. Streaming input "
            "terminated. Please make sure to either feed the input in the timely manner, or to send the end of input "
            'text (empty string "") when done.',
            "error": "input_timeout_exceeded",
            "code": 1008,
        }
        assert await client.closed() == 1008


@pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning")
async def test_their_own_package_receives_audio_while_it_writes(
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
