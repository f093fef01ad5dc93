"""An Antiphon in front of a second one: callers of every API are served, and either may be killed."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout

from bus.settings import BusSettings
from tests.support.acestep_client import released, settled
from tests.support.nats import fresh_root
from tests.support.programs import Fleet, Program, fleet_of
from tests.support.tone import tone_pcm

pytestmark = pytest.mark.slow

TEXT = "The keeper counted the ships each night, and wrote their names into a book."
TABLES = """
[engines.upstream.speech]
url = "{url}"
rate_hz = 22050
voices = ["en-us", "de"]
seed_field = "seed"
repeats = true
health = "/readyz"

[engines.upstream.music]
url = "{url}"
api = "acestep"
rate_hz = 48000
channels = 2
health = "/readyz"

[engines.upstream.chime]
url = "{url}"
model = "tone"
response_format = "pcm"
fields = {{ params = {{ seconds = 8, block_ms = 100, compute_ms = 20, device = "own" }} }}
seconds_per_char = 1.0
repeats = true
health = "/readyz"
"""


@dataclass
class Chain:
    """`near` is what callers use, `far` its upstream."""

    near: Fleet
    far: Fleet
    near_url: str
    far_url: str
    config: Path
    near_worker: Program
    far_gateway: Program

    def start_near_worker(self, name: str) -> Program:
        return self.near.worker(name, "upstream", 8, "--config", str(self.config))

    def start_far_gateway(self) -> Program:
        return self.far.gateway("--port", self.far_url.rpartition(":")[2])[0]


@pytest.fixture
def chain(bus_settings: BusSettings, tmp_path: Path) -> Iterator[Chain]:
    with ExitStack() as fleets:
        far = fleets.enter_context(fleet_of(msgspec.structs.replace(bus_settings, root=fresh_root())))
        near = fleets.enter_context(fleet_of(bus_settings))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        far.worker("f1", "speech,music,tone", 8)
        far_gateway, far_url = far.gateway("--port", str(port))
        config = tmp_path / "antiphon.toml"
        config.write_text(TABLES.format(url=far_url))
        near_worker = near.worker("n1", "upstream", 8, "--config", str(config))
        _, near_url = near.gateway()
        yield Chain(near, far, near_url, far_url, config, near_worker, far_gateway)


@asynccontextmanager
async def session(url: str) -> AsyncIterator[ClientSession]:
    async with ClientSession(url, timeout=ClientTimeout(60)) as http:
        await until_ready(http)
        yield http


async def until_ready(http: ClientSession) -> None:
    async with asyncio.timeout(30):
        while True:
            async with http.get("/readyz") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.02)


async def spoken(http: ClientSession, **fields: object) -> bytes:
    body = {"input": TEXT, "response_format": "pcm", "sample_rate": 22_050, **fields}
    async with http.post("/v1/audio/speech", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def test_callers_of_three_apis_are_served_through_two_antiphons(chain: Chain) -> None:
    async with session(chain.near_url) as near, session(chain.far_url) as far:
        # OpenAI: sample for sample the audio of the far one.
        for fields in (
            {"voice": "alloy", "model": "tts-1"},
            {"voice": "de", "model": "speech", "speed": 1.5, "seed": 7},
        ):
            audio = await spoken(near, **fields)
            assert len(audio) > 2 * 22_050
            assert audio == await spoken(far, **{"voice": "en-us", **fields, "model": "speech"})
        # ElevenLabs
        body = {"text": TEXT, "model_id": "eleven_turbo_v2_5"}
        path = "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb?output_format=pcm_22050"
        async with near.post(path, json=body) as answer:
            assert answer.status == 200, await answer.text()
            assert await answer.read() == await spoken(far, model="speech", voice="en-us")
        # ACE-Step
        task = await released(near, json={"prompt": "calm piano", "audio_duration": 5, "batch_size": 1, "bpm": 90})
        entry = await settled(near, task["task_id"])
        assert entry["status"] == 1, entry
        (result,) = msgspec.json.decode(entry["result"])
        assert result["metas"]["duration"] == 5
        async with near.get(result["file"]) as answer:
            assert answer.status == 200
            assert len(await answer.read()) > 5 * 8000
        # A refusal has the words of the far one, and the field.
        async with near.post(
            "/v1/audio/speech", json={"model": "speech", "input": TEXT, "voice": "xx-nosuch"}
        ) as answer:
            assert answer.status == 400
            assert "speech has no 'xx-nosuch'" in await answer.text()


async def listened(http: ClientSession, text: str, begun: asyncio.Event) -> bytes:
    """The audio of `chime`; `begun` is set when the first of it has arrived."""
    fields = {"model": "chime", "input": text, "response_format": "pcm"}
    audio = b""
    async with http.post("/v1/audio/speech", json=fields) as answer:
        assert answer.status == 200, await answer.text()
        async for data in answer.content.iter_any():
            audio += data
            begun.set()
    return audio


@pytest.mark.parametrize("victim", ["the near worker", "the far gateway"])
async def test_a_stream_survives_the_death_of_either(chain: Chain, victim: str) -> None:
    async with session(chain.near_url) as near, asyncio.timeout(90), asyncio.TaskGroup() as group:
        begun = [asyncio.Event() for _ in range(3)]
        streams = [group.create_task(listened(near, f"chime {n}", event)) for n, event in enumerate(begun)]
        for event in begun:
            await event.wait()
        if victim == "the near worker":
            chain.near_worker.send(signal.SIGKILL)
            await asyncio.to_thread(chain.start_near_worker, "n2")
        else:
            chain.far_gateway.send(signal.SIGKILL)
            await asyncio.to_thread(chain.near_worker.wait_for, "model.unready")
            await asyncio.to_thread(chain.start_far_gateway)
    assert [stream.result() == tone_pcm(8) for stream in streams] == [True] * 3
