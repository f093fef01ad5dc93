"""Messages that vLLM-Omni's WebSocket refuses, and the errors it sends."""

import contextlib

import aiohttp
import pytest

from tests.support import fleets
from tests.support.sockets import VLLM, SocketClient, connected, tone
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
async def test_a_wrong_message_is_refused_with_its_field_and_ends_the_session_only_before_a_config(
    http: aiohttp.ClientSession, message: str | bytes, words: str, param: str | None
) -> None:
    async def send(client: SocketClient) -> dict[str, object]:
        await (client.ws.send_bytes(message) if isinstance(message, bytes) else client.ws.send_str(message))
        return await client.receive_json()

    async with connected(http) as client:
        error = await send(client)
        assert (error["type"], error["param"]) == ("error", param)
        assert words in str(error["message"])
        assert await client.receive() == 1000
    async with connected(http, **tone(seconds=0.1)) as client:
        assert words in str((await send(client))["message"])
        await client.send_text("Still here.")
        assert (await client.receive_until("session.done")).pcm == [tone_pcm(0.1)]


async def test_text_before_a_config_ends_the_session(http: aiohttp.ClientSession) -> None:
    async with connected(http) as client:
        await client.send_text("Hello.", done=False)
        assert "came where session.config was expected" in (await client.receive_json())["message"]
        assert await client.receive() == 1000


async def test_a_config_in_the_middle_of_an_utterance_is_refused(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=0.1)) as client:
        await client.send_text("Hello", done=False)
        await client.send("session.config", **tone(seconds=0.2))
        assert "send input.done first" in (await client.receive_json())["message"]
        await client.send_text(".")
        assert (await client.receive_until("session.done")).pcm == [tone_pcm(0.1)]


async def test_a_config_may_be_large_and_not_too_large(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=0.1), ref_audio="x" * (4_000_000)) as client:
        await client.send_text("Hello.")
        assert (await client.receive_until("session.done")).pcm == [tone_pcm(0.1)]
    async with connected(http, **tone(seconds=0.1), ref_audio="x" * (4 << 20)) as client:
        assert "the limit is 4194304" in (await client.receive_json())["message"]
        assert await client.receive() == 1000
    # Far too large: the socket is closed before all of it is sent, so the client may not receive the close frame.
    with contextlib.suppress(ConnectionError):
        async with connected(http, **tone(seconds=0.1), ref_audio="x" * (5 << 20)) as client:
            assert await client.receive() in {1009, aiohttp.WSCloseCode.ABNORMAL_CLOSURE}


async def test_a_request_that_is_no_websocket_is_answered_in_openais_envelope(http: aiohttp.ClientSession) -> None:
    async with http.get(VLLM) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"
