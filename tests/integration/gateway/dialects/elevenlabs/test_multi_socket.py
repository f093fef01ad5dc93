"""ElevenLabs' `multi-stream-input` WebSocket, with the messages that LiveKit Agents and pipecat send."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bus.access.keys import Keys, Limits
from gateway.dialects.elevenlabs.contexts import MAX_CONTEXTS
from tests.support.doors import STEADY, gateway_here, until_state
from tests.support.elevenlabs_client import GEORGE
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

PATH = f"/v1/text-to-speech/{GEORGE}/multi-stream-input"
WITHIN_S = 30.0
#: As LiveKit Agents 1.8.9 sends it.
LIVEKIT = (
    "&enable_ssml_parsing=false&enable_logging=true&inactivity_timeout=180&apply_text_normalization=auto"
    "&apply_language_text_normalization=false&sync_alignment=true&auto_mode=false"
)


class Client:
    """One socket, and the messages received for each context."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.received: dict[str, list[dict[str, Any]]] = {}

    async def send(self, **message: Any) -> None:
        await self.ws.send_json(message)

    async def open(self, context_id: str, **params: Any) -> None:
        await self.send(text=" ", voice_settings={}, context_id=context_id, params=params or {"seconds": 0.3})

    async def receive(self) -> dict[str, Any]:
        message = dict(json.loads(await self.ws.receive_str(timeout=WITHIN_S)))
        self.received.setdefault(message["contextId"], []).append(message)
        return message

    async def until_final(self, *context_ids: str) -> None:
        """Receive until each of these contexts has had its last message."""
        left = set(context_ids)
        async with asyncio.timeout(WITHIN_S):
            while left:
                message = await self.receive()
                if message["isFinal"]:
                    left.discard(message["contextId"])

    def audio(self, context_id: str) -> bytes:
        messages = self.received.get(context_id, [])
        return b"".join(base64.b64decode(message["audio"] or "") for message in messages)

    async def closed(self) -> int:
        """The code that the server closed with."""
        message = await self.ws.receive(timeout=WITHIN_S)
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return int(message.data)


@pytest.fixture
async def tone(http: aiohttp.ClientSession) -> AsyncIterator[Client]:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000{LIVEKIT}") as ws:
        yield Client(ws)


async def test_a_flush_and_a_close_right_behind_it_play_the_text(tone: Client) -> None:
    await tone.open("a")
    await tone.send(text="Hello there. ", context_id="a")
    await tone.send(text="", flush=True, context_id="a")
    await tone.send(context_id="a", close_context=True)
    await tone.until_final("a")
    assert tone.audio("a") == tone_pcm(0.3)
    assert tone.received["a"][-1] == {"audio": None, "isFinal": True, "contextId": "a"}
    assert {message["contextId"] for message in tone.received["a"]} == {"a"}


async def test_a_flush_may_lack_the_text(tone: Client) -> None:
    await tone.open("a")
    await tone.send(text="Hello there. ", context_id="a")
    await tone.send(context_id="a", flush=True)
    while len(tone.audio("a")) < len(tone_pcm(0.3)):
        await tone.receive()
    assert tone.audio("a") == tone_pcm(0.3)


async def test_text_without_a_flush_is_dropped_at_the_end_of_its_context(tone: Client) -> None:
    await tone.open("a")
    await tone.send(text="Never said. ", context_id="a")
    await tone.send(context_id="a", close_context=True)
    await tone.until_final("a")
    assert tone.audio("a") == b""


async def test_an_empty_text_keeps_alive_and_opens_nothing(tone: Client) -> None:
    await tone.send(text="")
    await tone.open("a")
    await tone.send(text="", context_id="a")
    await tone.send(text="Hello there. ", context_id="a", flush=True)
    await tone.send(context_id="a", close_context=True)
    await tone.until_final("a")
    await tone.send(text="", context_id="a")
    assert tone.audio("a") == tone_pcm(0.3)
    await tone.send(close_socket=True)
    assert await tone.closed() == 1000
    assert set(tone.received) == {"a"}


async def test_contexts_are_played_side_by_side_and_end_by_themselves(tone: Client) -> None:
    await tone.open("long", seconds=600, **STEADY)
    await tone.send(text="This goes on. ", context_id="long", flush=True)
    while not tone.audio("long"):
        await tone.receive()
    await tone.open("short")
    await tone.send(text="Meanwhile. ", context_id="short", flush=True)
    await tone.send(context_id="short", close_context=True)
    await tone.until_final("short")
    assert tone.audio("short") == tone_pcm(0.3)
    assert not any(message["isFinal"] for message in tone.received["long"])


async def test_closing_the_socket_plays_every_context_first(tone: Client) -> None:
    for context_id in ("a", "b"):
        await tone.open(context_id)
        await tone.send(text="Not flushed. ", contextId=context_id)
    await tone.send(close_socket=True)
    await tone.until_final("a", "b")
    assert [tone.audio("a"), tone.audio("b")] == [tone_pcm(0.3)] * 2
    assert await tone.closed() == 1000


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        ({"text": "Hi. ", "params": {"secconds": 1}}, "invalid_input_message", "did you mean 'seconds'?"),
        ({"text": "Hi. ", "generation_config": {"chunk_length_schedule": [5]}}, "invalid_input_message", "chunk_len"),
        ({"text": 5}, "invalid_input_message", "text: "),
        (
            {"text": "Hi. ", "flush": True, "params": {"seconds": 1, "fault": {"kind": "raise", "at_block": 0}}},
            "engine_failed",
            "",
        ),
    ],
)
async def test_an_error_ends_its_context_and_not_the_socket(
    tone: Client, message: dict[str, Any], error: str, words: str
) -> None:
    await tone.open("other")
    await tone.send(**message, context_id="wrong")
    for _ in range(3):  # sent before the error was read
        await tone.send(text="More. ", context_id="wrong", flush=True)
    await tone.until_final("wrong")
    (failure,) = tone.received["wrong"]
    assert failure["error"] == error
    assert words in failure["message"]
    await tone.send(text="Hello. ", context_id="other", flush=True)
    await tone.send(context_id="other", close_context=True)
    await tone.until_final("other")
    assert tone.audio("other") == tone_pcm(0.3)
    assert len(tone.received["wrong"]) == 1
    await tone.send(context_id="wrong", close_context=True)
    await tone.open("wrong")
    await tone.send(text="Again. ", context_id="wrong", flush=True)
    await tone.send(context_id="wrong", close_context=True)
    await tone.until_final("wrong")
    assert tone.audio("wrong") == tone_pcm(0.3)


async def test_a_socket_has_a_bounded_number_of_contexts(tone: Client) -> None:
    names = [str(number) for number in range(1000)]
    for name in names:
        await tone.open(name)
    refused = names[MAX_CONTEXTS:]
    await tone.until_final(*refused)
    for name in refused:
        (failure,) = tone.received[name]
        assert (failure["error"], failure["code"]) == ("max_active_conversations", 1008)
        assert f"{MAX_CONTEXTS} contexts are open" in failure["message"]
    await tone.send(context_id="0", close_context=True)
    await tone.until_final("0")
    await tone.open("one more")
    await tone.send(text="Hello. ", context_id="one more", flush=True)
    await tone.send(context_id="one more", close_context=True)
    await tone.until_final("one more")
    assert tone.audio("one more") == tone_pcm(0.3)


async def test_the_text_of_all_contexts_together_is_bounded(tone: Client) -> None:
    page = "All work and no play makes Jack a dull boy, and so on and on. " * 1000
    for name, num_pages in (("a", 4), ("b", 4)):
        await tone.open(name, seconds=600, **STEADY)
        for _ in range(num_pages):
            await tone.send(text=page, context_id=name)
    await tone.until_final("b")
    assert "characters would be queued, the limit is 262144" in tone.received["b"][-1]["message"]
    assert not any(message["isFinal"] for message in tone.received.get("a", []))


@pytest.mark.parametrize(
    "data", ["no JSON", '{"text":" ","context_id":5}', '{"text":" ","context_id":"%s"}' % ("x" * 129)]
)
async def test_a_message_of_no_context_ends_the_socket(tone: Client, data: str) -> None:
    await tone.ws.send_str(data)
    failure = json.loads(await tone.ws.receive_str(timeout=WITHIN_S))
    assert (failure["error"], failure["code"]) == ("invalid_input_message", 1008)
    assert await tone.closed() == 1008


async def test_the_times_of_characters_are_the_text(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?output_format=pcm_22050") as ws:
        client = Client(ws)
        await client.send(text=" ", context_id="a")
        await client.send(text="Hello there, dear listener. ", context_id="a", flush=True)
        await client.send(context_id="a", close_context=True)
        await client.until_final("a")
    alignments = [message["alignment"] for message in client.received["a"] if message.get("alignment")]
    assert "".join("".join(each["chars"]) for each in alignments) == "Hello there, dear listener. "
    assert all(each["charStartTimesMs"][0] == 0 for each in alignments)


async def test_the_key_may_be_in_the_first_message_and_is_the_only_one(stack: Stack) -> None:
    async with gateway_here(stack.settings, anonymous=False) as (gateway, http):
        keys = Keys(gateway.bus)
        (_, text), (_, other) = [await keys.create(tenant, Limits()) for tenant in ("acme", "umbrella")]
        await gateway.keys.refresh()
        await eventually(lambda: gateway.fleet.card("tone"))
        path = f"{PATH}?model_id=tone&output_format=pcm_24000"
        for first in ({}, {"xi-api-key": text[:-1] + "x"}):
            async with http.ws_connect(path) as ws:
                await ws.send_json({"text": " ", "context_id": "a", **first})
                failure = await ws.receive_json(timeout=WITHIN_S)
                assert (failure["error"], failure["code"]) == ("invalid_api_key", 1008)
                assert await Client(ws).closed() == 1008
        async with http.ws_connect(path) as ws:
            client = Client(ws)
            await client.send(text=" ", context_id="a", xi_api_key=text, params={"seconds": 0.3})
            await client.send(text="Hello. ", context_id="a", flush=True)
            await client.send(text=" ", context_id="b", params={"seconds": 0.3})
            await client.send(text="Hello. ", context_id="b", flush=True)
            await client.send(context_id="a", close_context=True)
            await client.send(context_id="b", close_context=True)
            await client.until_final("a", "b")
            assert client.audio("a") == client.audio("b") == tone_pcm(0.3)
            await client.send(text=" ", context_id="c", xi_api_key=other)
            failure = await ws.receive_json(timeout=WITHIN_S)
            assert failure["error"] == "invalid_api_key"
            assert await client.closed() == 1008


@pytest.mark.parametrize("path", [PATH, PATH.replace("multi-", "")])
async def test_a_longer_inactivity_timeout_than_theirs_is_theirs(http: aiohttp.ClientSession, path: str) -> None:
    async with http.ws_connect(f"{path}?model_id=tone&output_format=pcm_24000&inactivity_timeout=300") as ws:
        await ws.send_json({"text": " ", "params": {"seconds": 0.3}})
        await ws.send_json({"text": "Hello. ", "flush": True})
        assert (await ws.receive_json(timeout=WITHIN_S))["audio"]


async def test_an_inactivity_timeout_of_no_seconds_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&inactivity_timeout=0") as ws:
        failure = await ws.receive_json(timeout=WITHIN_S)
        assert failure["error"] == "invalid_input_message"
        assert "inactivity_timeout: must be" in failure["message"]


async def test_a_gateway_that_stops_plays_every_context_and_then_closes_the_socket(stack: Stack) -> None:
    async with gateway_here(stack.settings) as (gateway, http):
        await eventually(lambda: gateway.fleet.card("tone"))
        async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000") as ws:
            client = Client(ws)
            for name in ("a", "b"):
                await client.open(name, seconds=0.5, **STEADY)
                await client.send(text="Let me finish. ", context_id=name, flush=True)
            while not (client.audio("a") and client.audio("b")):
                await client.receive()
            gateway.requests.stopping.set()
            while len(client.audio("a")) + len(client.audio("b")) < 2 * len(tone_pcm(0.5)):
                await client.receive()
            assert await client.closed() == 1001
        async with asyncio.timeout(WITHIN_S):
            await gateway.requests.finished()


async def test_a_client_that_hangs_up_leaves_the_jobs_of_every_context(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{PATH}?model_id=tone&output_format=pcm_24000") as ws:
        client = Client(ws)
        for name in ("a", "b"):
            await client.open(name, seconds=600, **STEADY)
            await client.send(text=f"{name} is never heard to its end. ", context_id=name, flush=True)
        while not (client.audio("a") and client.audio("b")):
            await client.receive()
        jobs = {message["job"] for messages in client.received.values() for message in messages}
    assert len(jobs) == 2
    for job in jobs:
        await until_state(http, job, "cancelled", within_s=WITHIN_S)
