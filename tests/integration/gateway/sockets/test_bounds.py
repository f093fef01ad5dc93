"""What bounds a WebSocket: silence, a client that vanishes or does not read, a key that ends, a gateway that stops."""

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from bus.access.keys import Keys, Limits
from bus.settings import BusSettings
from gateway.compose import Services
from gateway.dialects.vllm import socket as vllm_ws
from gateway.sockets import socket as sockets
from tests.support.doors import STEADY, gated, gateway_here, until_state
from tests.support.fleets import small_bus
from tests.support.programs import fleet_of
from tests.support.sockets import VLLM, Talk, talking, tone
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually
from tests.support.web import base_of

pytestmark = pytest.mark.slow

ELEVEN = "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream-input?model_id=tone&output_format=pcm_24000"


@pytest.fixture(scope="module")
def settings(nats_url: str) -> Iterator[BusSettings]:
    """A bus with one worker, which has one slot."""
    with fleet_of(small_bus(nats_url)) as fleet:
        fleet.worker("w1", "tone", 1)
        yield fleet.settings


@pytest.fixture
async def here(settings: BusSettings) -> AsyncIterator[tuple[Services, aiohttp.ClientSession]]:
    """A gateway in this process."""
    async with gateway_here(settings) as (gateway, http):
        await eventually(lambda: gateway.fleet.card("tone"))
        yield gateway, http
        # A gateway that ends leaves nothing: what was left before must be settled, or the slot is taken.
        async with asyncio.timeout(20):
            while any(job["state"] in {"queued", "running"} for job in await all_jobs(http)):
                await asyncio.sleep(0.01)


async def all_jobs(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with http.get("/v1/jobs?limit=100") as answer:
        return list((await answer.json())["jobs"])


async def new_jobs(http: aiohttp.ClientSession, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that were not there before."""
    ids = {job["id"] for job in known}
    return [job for job in await all_jobs(http) if job["id"] not in ids]


async def test_a_client_that_never_says_what_it_wants_is_sent_away(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (vllm_ws.CONFIG_S, vllm_ws.IDLE_S) == (10.0, 30.0)
    monkeypatch.setattr(vllm_ws, "CONFIG_S", 0.05)
    async with talking(here[1]) as talk:
        assert (await talk.json())["message"] == "Timeout waiting for session.config"
        assert await talk.next() == 1000


async def test_silence_ends_a_session_but_not_while_something_is_said(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_ws, "IDLE_S", 0.15)
    async with talking(here[1], **tone(seconds=0.8, **STEADY)) as talk:
        await talk.say("This takes longer than silence may.")
        assert (await talk.until("session.done")).pcm == [tone_pcm(0.8)]
        assert (await talk.json())["message"] == "Idle timeout: no message received"
        assert await talk.next() == 1000


async def test_waiting_for_a_slot_is_no_silence(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(vllm_ws, "IDLE_S", 0.1)
    loop = asyncio.get_running_loop()
    async with talking(here[1], **tone(**gated(tmp_path / "open", 0, seconds=0.1))) as talk:
        await talk.say("Wait for it.")
        loop.call_later(0.5, (tmp_path / "open").touch)
        assert (await talk.until("session.done")).pcm == [tone_pcm(0.1)]


async def raw_socket(http: aiohttp.ClientSession, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket whose owner answers nothing, not even whether it is there."""
    url = base_of(http)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {url.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert b" 101 " in await reader.readline()
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def frame(text: str) -> bytes:
    """A text frame of a client, masked with zeros."""
    data = text.encode()
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data


async def test_a_client_that_vanishes_leaves_its_jobs(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, http = here
    known = await all_jobs(http)
    monkeypatch.setattr(sockets, "HEARTBEAT_S", 1.0)
    _, writer = await raw_socket(http, VLLM)
    writer.write(frame(json.dumps({"type": "session.config", **tone(seconds=600, **STEADY)})))
    writer.write(frame('{"type":"input.text","text":"Nobody hears this. Nor this. Nor that."}'))
    async with asyncio.timeout(20):
        while len(jobs := await new_jobs(http, known)) < 2:
            writer.write(frame('{"type":"input.text","text":""}'))  # there until both are asked for
            await asyncio.sleep(0.01)
    for job in jobs:
        await until_state(http, job["id"], "cancelled")
    await eventually(lambda: len(gateway.requests) == 0)
    writer.close()


async def test_a_client_that_does_not_read_holds_back_what_is_asked_for_and_no_memory(
    here: tuple[Services, aiohttp.ClientSession],
) -> None:
    _, http = here
    known = await all_jobs(http)
    held_before = psutil.Process().memory_info().rss
    _, writer = await raw_socket(http, VLLM)
    writer.write(frame(json.dumps({"type": "session.config", **tone(seconds=240)})))
    writer.write(frame('{"type":"input.text","text":"One. Two. Three. Four. Five. Six. Seven. Eight"}'))
    async with asyncio.timeout(20):
        while True:
            jobs = await new_jobs(http, known)
            if [job["state"] for job in jobs] == ["done", "done"]:
                break
            assert len(jobs) <= 2
            await asyncio.sleep(0.02)
    # 23 MB of sound are made; what is not read waits in the logs, and nobody asked for the third sentence's.
    held = psutil.Process().memory_info().rss - held_before
    assert held < 12 << 20, f"{held >> 20} MB"
    writer.transport.abort()


@pytest.mark.parametrize("text", ["", "Nobody hears this. Nor"])
async def test_a_client_that_only_writes_is_left_once_it_does_not_answer(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    gateway, http = here
    monkeypatch.setattr(sockets, "HEARTBEAT_S", 0.3)
    _, writer = await raw_socket(http, VLLM)
    for message in ({"type": "session.config", **tone(seconds=600, **STEADY)}, {"type": "input.text", "text": text}):
        writer.write(frame(json.dumps(message)))
    nonsense = frame("x" * 200) * 500
    with contextlib.suppress(TimeoutError):
        # Until both sides' buffers are full: each is answered, and no answer is read.
        while True:
            writer.write(nonsense)
            async with asyncio.timeout(0.2):
                await writer.drain()
    assert len(gateway.requests) == 1
    await eventually(lambda: not len(gateway.requests))
    writer.transport.abort()


async def test_what_waits_to_be_said_is_bounded(here: tuple[Services, aiohttp.ClientSession]) -> None:
    async with talking(here[1], **tone(seconds=60, **STEADY)) as talk:
        await talk.say(*["All work and no play makes Jack a dull boy, and so on and on. " * 2000] * 3, "H", done=False)
        error = (await talk.until("error", begun=True)).messages[-1]
        assert "characters would be queued, the limit is 262144" in error["message"]
        await talk.tell("input.cancel")
        await talk.until("input.cancelled", begun=True)
        await talk.say("Hi. " * 6000, done=False)
        await talk.say("One more.")
        error = (await talk.until("error", begun=True)).messages[-1]
        assert "sentences are queued, the limit is 4096" in error["message"]


async def test_a_gateway_that_stops_lets_a_sentence_end_and_then_says_goodbye(
    here: tuple[Services, aiohttp.ClientSession],
) -> None:
    gateway, http = here
    async with talking(http, **tone(seconds=0.5, **STEADY)) as speaking, talking(http, **tone()) as silent:
        await speaking.say("Let me finish.")
        await speaking.json()
        gateway.requests.stop()
        assert await silent.next() == 1001
        assert (await speaking.until("session.done", begun=True)).of("audio.done")[0]["error"] is False
        assert await speaking.next() == 1001
    async with asyncio.timeout(20):
        await gateway.requests.idle.wait()


async def test_a_key_may_come_first_and_ends_its_socket_when_it_is_revoked(
    settings: BusSettings,
) -> None:
    async with gateway_here(settings, anonymous=False) as (gateway, http):
        keys = Keys(gateway.bus)
        key, text = await keys.create("acme", Limits())
        await gateway.keys.refresh()
        await eventually(lambda: gateway.fleet.card("tone"), 10)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await http.ws_connect(VLLM)
        for first in ({}, {"xi-api-key": "sk-of-theirs"}, {"xi-api-key": text[:-1] + "x"}):
            async with http.ws_connect(ELEVEN) as ws:
                await ws.send_json({"text": " ", **first})
                told = await ws.receive_json(timeout=10)
                assert (told["error"], told["code"]) == ("invalid_api_key", 1008)
                assert (await ws.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        async with (
            http.ws_connect(ELEVEN) as eleven,
            http.ws_connect(VLLM, headers={"Authorization": f"Bearer {text}"}) as ws,
        ):
            await eleven.send_json({"text": " ", "xi-api-key": text, "params": {"seconds": 0.1}})
            await eleven.send_json({"text": "Let me in. ", "flush": True})
            assert (await eleven.receive_json(timeout=10))["audio"]
            talk = Talk(ws)
            await talk.tell("session.config", **tone(seconds=0.1))
            await talk.say("Me too.")
            assert (await talk.until("session.done")).pcm == [tone_pcm(0.1)]
            await keys.revoke(key.id)
            await gateway.keys.refresh()
            await talk.say("Not any more.")
            assert (await talk.until("session.done")).of("error")[0]["code"] == "unauthorized"
            await eleven.send_json({"text": "Nor me. ", "flush": True})
            assert (await eleven.receive_json(timeout=10))["error"] == "invalid_api_key"


async def test_a_key_with_one_job_at_a_time_speaks_one_sentence_after_the_other(settings: BusSettings) -> None:
    async with gateway_here(settings, anonymous=False) as (gateway, http):
        _, text = await Keys(gateway.bus).create("acme", Limits(concurrent_jobs=1))
        await gateway.keys.refresh()
        await eventually(lambda: gateway.fleet.card("tone"), 10)
        async with http.ws_connect(VLLM, headers={"Authorization": f"Bearer {text}"}) as ws:
            talk = Talk(ws)
            await talk.tell("session.config", **tone(seconds=0.2, **STEADY))
            await talk.say("One at a time. Then another. And the last.")
            heard = await talk.until("session.done")
            assert (heard.pcm, heard.of("error")) == ([tone_pcm(0.2)] * 3, [])
            for _ in range(3):
                await talk.say("This is not heard to its end. Nor this.")
                await talk.until("audio.start")
                await talk.tell("input.cancel")
                await talk.say("This is.")
                await talk.until("input.cancelled", begun=True)
                heard = await talk.until("session.done")
                assert (heard.pcm, heard.of("error")) == ([tone_pcm(0.2)], [])
