"""Limits of a WebSocket: idle time, a client that vanishes or does not read, a revoked key, a gateway that stops."""

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
from gateway.dialects.vllm import socket as vllm_socket
from gateway.sockets import socket as sockets
from tests.support.doors import STEADY, gated, gateway_here, until_state
from tests.support.fleets import small_bus
from tests.support.programs import fleet_of
from tests.support.sockets import VLLM, SocketClient, connected, tone
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
        # The jobs that were left must be settled before the gateway ends, or the only slot stays taken.
        async with asyncio.timeout(20):
            while any(job["state"] in {"queued", "running"} for job in await all_jobs(http)):
                await asyncio.sleep(0.01)


async def all_jobs(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with http.get("/v1/jobs?limit=100") as answer:
        return list((await answer.json())["jobs"])


async def new_jobs(http: aiohttp.ClientSession, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The jobs that are not in `known`."""
    ids = {job["id"] for job in known}
    return [job for job in await all_jobs(http) if job["id"] not in ids]


async def test_a_client_that_sends_no_config_is_disconnected(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (vllm_socket.CONFIG_S, vllm_socket.IDLE_S) == (10.0, 30.0)
    monkeypatch.setattr(vllm_socket, "CONFIG_S", 0.05)
    async with connected(here[1]) as client:
        assert (await client.receive_json())["message"] == "Timeout waiting for session.config"
        assert await client.receive() == 1000


async def test_an_idle_session_ends_but_not_while_audio_is_played(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_socket, "IDLE_S", 0.15)
    async with connected(here[1], **tone(seconds=0.8, **STEADY)) as client:
        await client.send_text("This takes longer than the idle time.")
        assert (await client.receive_until("session.done")).pcm == [tone_pcm(0.8)]
        assert (await client.receive_json())["message"] == "Idle timeout: no message received"
        assert await client.receive() == 1000


async def test_a_session_that_waits_for_a_slot_is_not_idle(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(vllm_socket, "IDLE_S", 0.1)
    loop = asyncio.get_running_loop()
    async with connected(here[1], **tone(**gated(tmp_path / "open", 0, seconds=0.1))) as client:
        await client.send_text("Wait for it.")
        loop.call_later(0.5, (tmp_path / "open").touch)
        assert (await client.receive_until("session.done")).pcm == [tone_pcm(0.1)]


async def raw_socket(http: aiohttp.ClientSession, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket whose client answers nothing, not even a ping."""
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
    writer.write(frame('{"type":"input.text","text":"This is never read. Nor this. Nor that."}'))
    async with asyncio.timeout(20):
        while len(jobs := await new_jobs(http, known)) < 2:
            writer.write(frame('{"type":"input.text","text":""}'))  # active until both jobs are accepted
            await asyncio.sleep(0.01)
    for job in jobs:
        await until_state(http, job["id"], "cancelled")
    await eventually(lambda: len(gateway.requests) == 0)
    writer.close()


async def test_a_client_that_does_not_read_delays_jobs_and_takes_no_memory(
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
    # 23 MB of audio are made and wait in the logs; the third sentence has no job yet.
    held = psutil.Process().memory_info().rss - held_before
    assert held < 12 << 20, f"{held >> 20} MB"
    writer.transport.abort()


@pytest.mark.parametrize("text", ["", "This is never read. Nor"])
async def test_a_client_that_only_writes_is_disconnected_once_it_does_not_answer_pings(
    here: tuple[Services, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    gateway, http = here
    monkeypatch.setattr(sockets, "HEARTBEAT_S", 0.3)
    _, writer = await raw_socket(http, VLLM)
    for message in ({"type": "session.config", **tone(seconds=600, **STEADY)}, {"type": "input.text", "text": text}):
        writer.write(frame(json.dumps(message)))
    nonsense = frame("x" * 200) * 500
    with contextlib.suppress(TimeoutError):
        # Until both sides' buffers are full: each message is answered, and no answer is read.
        while True:
            writer.write(nonsense)
            async with asyncio.timeout(0.2):
                await writer.drain()
    assert len(gateway.requests) == 1
    await eventually(lambda: not len(gateway.requests))
    writer.transport.abort()


async def test_the_queue_is_bounded(here: tuple[Services, aiohttp.ClientSession]) -> None:
    async with connected(here[1], **tone(seconds=60, **STEADY)) as client:
        await client.send_text(
            *["All work and no play makes Jack a dull boy, and so on and on. " * 2000] * 3, "H", done=False
        )
        error = (await client.receive_until("error", has_started=True)).messages[-1]
        assert "characters would be queued, the limit is 262144" in error["message"]
        await client.send("input.cancel")
        await client.receive_until("input.cancelled", has_started=True)
        await client.send_text("Hi. " * 6000, done=False)
        await client.send_text("One more.")
        error = (await client.receive_until("error", has_started=True)).messages[-1]
        assert "sentences are queued, the limit is 4096" in error["message"]


async def test_a_gateway_that_stops_plays_the_queue_and_then_closes_the_socket(
    here: tuple[Services, aiohttp.ClientSession],
) -> None:
    gateway, http = here
    async with connected(http, **tone(seconds=0.5, **STEADY)) as speaking, connected(http, **tone()) as silent:
        await speaking.send_text("Let me finish.")
        await speaking.receive_json()
        gateway.requests.stopping.set()
        assert await silent.receive() == 1001
        assert (await speaking.receive_until("session.done", has_started=True)).of_type("audio.done")[0][
            "error"
        ] is False
        assert await speaking.receive() == 1001
    async with asyncio.timeout(20):
        await gateway.requests.finished()


async def test_a_key_may_be_in_the_first_message_and_its_revocation_ends_the_socket(
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
                error = await ws.receive_json(timeout=10)
                assert (error["error"], error["code"]) == ("invalid_api_key", 1008)
                assert (await ws.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        async with (
            http.ws_connect(ELEVEN) as eleven,
            http.ws_connect(VLLM, headers={"Authorization": f"Bearer {text}"}) as ws,
        ):
            await eleven.send_json({"text": " ", "xi-api-key": text, "params": {"seconds": 0.1}})
            await eleven.send_json({"text": "Let me in. ", "flush": True})
            assert (await eleven.receive_json(timeout=10))["audio"]
            client = SocketClient(ws)
            await client.send("session.config", **tone(seconds=0.1))
            await client.send_text("Me too.")
            assert (await client.receive_until("session.done")).pcm == [tone_pcm(0.1)]
            await keys.revoke(key.id)
            await gateway.keys.refresh()
            await client.send_text("Not any more.")
            assert (await client.receive_until("session.done")).of_type("error")[0]["code"] == "unauthorized"
            await eleven.send_json({"text": "Nor me. ", "flush": True})
            assert (await eleven.receive_json(timeout=10))["error"] == "invalid_api_key"


async def test_a_key_with_one_job_at_a_time_plays_one_sentence_after_the_other(settings: BusSettings) -> None:
    async with gateway_here(settings, anonymous=False) as (gateway, http):
        _, text = await Keys(gateway.bus).create("acme", Limits(concurrent_jobs=1))
        await gateway.keys.refresh()
        await eventually(lambda: gateway.fleet.card("tone"), 10)
        async with http.ws_connect(VLLM, headers={"Authorization": f"Bearer {text}"}) as ws:
            client = SocketClient(ws)
            await client.send("session.config", **tone(seconds=0.2, **STEADY))
            await client.send_text("One at a time. Then another. And the last.")
            received = await client.receive_until("session.done")
            assert (received.pcm, received.of_type("error")) == ([tone_pcm(0.2)] * 3, [])
            for _ in range(3):
                await client.send_text("This is interrupted. Nor is this played.")
                await client.receive_until("audio.start")
                await client.send("input.cancel")
                await client.send_text("This is.")
                await client.receive_until("input.cancelled", has_started=True)
                received = await client.receive_until("session.done")
                assert (received.pcm, received.of_type("error")) == ([tone_pcm(0.2)], [])
