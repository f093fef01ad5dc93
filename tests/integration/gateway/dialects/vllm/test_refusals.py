"""What vLLM-Omni's WebSocket refuses, and in which words."""

import contextlib

import aiohttp
import pytest

from tests.support import fleets
from tests.support.sockets import VLLM, Talk, talking, tone
from tests.support.tone import tone_pcm

stack = fleets.stack("tone", 1)
http = fleets.http()


@pytest.mark.parametrize(
    ("message", "words", "param"),
    [
        ("{", "not JSON", None),
        ("[]", "Expected `object`", None),
        ("{}", "type: is required", "type"),
        ('{"type":"input.text","text":7}', "text: Expected `str`", "text"),
        ('{"type":"input.txet"}', "type: 'input.txet' is not one of session.config, input.text", "type"),
        ('{"type":"session.config","split_granularity":"word"}', "split_granularity: ", "split_granularity"),
        (
            '{"type":"session.config","response_format":"mp4"}',
            "response_format: 'mp4' is not one of",
            "response_format",
        ),
        ('{"type":"session.config","model":"tone","lane":"fast"}', "lane: 'fast' is not one of", "lane"),
        ('{"type":"session.config","model":"tone","params":{"secs":1}}', "params.secs: unknown", "params.secs"),
        ('{"type":"session.config","model":"tone","speed":9}', "speed: must be from 0.25 to 4", "speed"),
        (
            '{"type":"session.config","model":"tone","word_timestamps":true}',
            "word_timestamps: needs",
            "word_timestamps",
        ),
        (b"\x00\xff", "the message is binary", None),
        ('{"type":"input.text","text":"' + "x" * (128 << 10) + '"}', "the limit is 131072", "text"),
    ],
)
async def test_what_is_wrong_is_told_by_name_and_is_the_end_only_before_a_config(
    http: aiohttp.ClientSession, message: str | bytes, words: str, param: str | None
) -> None:
    async def send(talk: Talk) -> dict[str, object]:
        await (talk.ws.send_bytes(message) if isinstance(message, bytes) else talk.ws.send_str(message))
        return await talk.json()

    async with talking(http) as talk:
        error = await send(talk)
        assert (error["type"], error["param"]) == ("error", param)
        assert words in str(error["message"])
        assert await talk.next() == 1000
    async with talking(http, **tone(seconds=0.1)) as talk:
        assert words in str((await send(talk))["message"])
        await talk.say("Still here.")
        assert (await talk.until("session.done")).pcm == [tone_pcm(0.1)]


async def test_text_before_a_config_is_the_end(http: aiohttp.ClientSession) -> None:
    async with talking(http) as talk:
        await talk.say("Hello.", done=False)
        assert "came where session.config was expected" in (await talk.json())["message"]
        assert await talk.next() == 1000


async def test_a_config_in_the_middle_of_an_utterance_is_refused(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=0.1)) as talk:
        await talk.say("Hello", done=False)
        await talk.tell("session.config", **tone(seconds=0.2))
        assert "send input.done first" in (await talk.json())["message"]
        await talk.say(".")
        assert (await talk.until("session.done")).pcm == [tone_pcm(0.1)]


async def test_a_config_may_be_large_and_not_too_large(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=0.1), ref_audio="x" * (4_000_000)) as talk:
        await talk.say("Hello.")
        assert (await talk.until("session.done")).pcm == [tone_pcm(0.1)]
    async with talking(http, **tone(seconds=0.1), ref_audio="x" * (4 << 20)) as talk:
        assert "the limit is 4194304" in (await talk.json())["message"]
        assert await talk.next() == 1000
    # Far too large: the socket is closed before all of it was sent, and who still sends may not hear the goodbye.
    with contextlib.suppress(ConnectionError):
        async with talking(http, **tone(seconds=0.1), ref_audio="x" * (5 << 20)) as talk:
            assert await talk.next() in {1009, aiohttp.WSCloseCode.ABNORMAL_CLOSURE}


async def test_a_request_that_is_no_websocket_is_answered_in_openais_envelope(http: aiohttp.ClientSession) -> None:
    async with http.get(VLLM) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"
