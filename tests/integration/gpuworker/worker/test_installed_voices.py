"""Voices that are installed while workers run: listed, spoken, replaced and removed, and no accepted job is another."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from bus.jobs.client import Bus, open_bus
from tests.support import piper_voice
from tests.support.blobs import becomes
from tests.support.commands import json_of, on_bus
from tests.support.fleets import Stack, small_bus, stack_of
from tests.support.programs import fleet_of
from tests.support.web import Body, ready

pytestmark = pytest.mark.slow

NAME = "en_US-random-low"
TEXT = "The quick brown fox jumps over the lazy dog. "


@pytest.fixture(scope="module")
def stack(nats_url: str) -> Iterator[Stack]:
    with stack_of(small_bus(nats_url), "piper") as made:
        yield made


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test") as opened:
        yield opened


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[ClientSession]:
    async with ClientSession(stack.url) as session:
        await ready(session, "")
        yield session


async def install(bus: Bus, http: ClientSession, folder: Path, name: str, **about: Any) -> str:
    """Install a voice of random weights; its digest, once the gateway lists it."""
    piper_voice.write(folder, name, **about)
    shown = await json_of(bus, "voices", "install", name, "--from", str(folder), "--yes")
    digest = str(shown["sha256"])
    await becomes(lambda: digest_of(http, name), digest)
    return digest


async def digest_of(http: ClientSession, name: str) -> str:
    async with http.get("/v1/voices?model=piper") as answer:
        voices = (await answer.json())["voices"]
    return next((str(voice["sha256"]) for voice in voices if voice["id"] == name), "")


def speech(voice: str, text: str = TEXT, **fields: Any) -> dict[str, Any]:
    return {"model": "piper", "input": text, "voice": voice, "response_format": "pcm", **fields}


async def spoken(http: ClientSession, voice: str, **fields: Any) -> tuple[bytes, str, str]:
    """Audio, how the cache answered, and the job."""
    async with http.post("/v1/audio/speech", json=speech(voice, **fields)) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read(), answer.headers["Antiphon-Cache"], answer.headers["Antiphon-Job"]


async def test_a_running_stack_lists_and_speaks_a_voice_of_several_speakers(
    bus: Bus, http: ClientSession, tmp_path: Path
) -> None:
    await install(bus, http, tmp_path, "en_US-two-low", speakers=("ann", "bob"))
    ann, bob = [(await spoken(http, f"en_US-two-low+{who}"))[0] for who in ("ann", "bob")]
    assert len(ann) > 10_000
    assert ann != bob


async def test_a_voice_of_another_rate_than_the_workers_is_refused(
    bus: Bus, http: ClientSession, tmp_path: Path
) -> None:
    piper_voice.write(tmp_path, "en_US-slow-low", rate_hz=16_000)
    done = await on_bus(bus, "voices", "install", "en_US-slow-low", "--from", str(tmp_path), "--yes")
    assert done.returncode == 2
    assert "en_US-slow-low has 16000 Hz, and the workers of piper serve 22050 Hz" in done.stderr
    assert await digest_of(http, "en_US-slow-low") == ""


async def test_an_install_between_two_equal_requests_changes_no_run(
    bus: Bus, http: ClientSession, tmp_path: Path
) -> None:
    first = await install(bus, http, tmp_path / "1", NAME)
    audio, cache, job = await spoken(http, NAME)
    assert (cache, (await spoken(http, NAME))[1]) == ("miss", "hit")
    assert await install(bus, http, tmp_path / "2", NAME, seed=5) != first
    other, cache, _ = await spoken(http, NAME)
    assert (cache, other == audio) == ("miss", False)
    async with http.get(f"/v1/jobs/{job}/audio?format=pcm") as answer:
        assert await answer.read() == audio
    await install(bus, http, tmp_path / "1", NAME)
    again, cache, _ = await spoken(http, NAME)
    assert (cache, again == audio) == ("hit", True)


async def test_a_job_that_was_accepted_before_its_voice_was_removed_is_spoken(
    bus: Bus, http: ClientSession, stack: Stack, tmp_path: Path
) -> None:
    name = "en_US-gone-low"
    await install(bus, http, tmp_path, name)
    audio, _, _ = await spoken(http, name)
    stack.worker.stop()
    async with http.post("/v1/jobs", json={"model": "piper", "input": TEXT, "voice": name}) as answer:
        assert answer.status == 202, await answer.text()
        job = (await answer.json())["id"]
    await json_of(bus, "voices", "remove", name)
    stack.fleet.worker("w2", "piper", 4)
    async with http.get(f"/v1/jobs/{job}/audio?format=pcm") as answer:
        assert await answer.read() == audio
    await becomes(lambda: digest_of(http, name), "")
    async with http.post("/v1/jobs", json={"model": "piper", "input": TEXT, "voice": name}) as answer:
        assert (answer.status, (await answer.json())["path"]) == (422, "voice")


async def test_a_worker_without_the_files_continues_the_stream_of_one_that_was_killed(
    nats_url: str, tmp_path: Path
) -> None:
    settings = small_bus(nats_url, ack_wait_s=2.0, replies_max_bytes=1 << 30)
    text = TEXT * 250
    with fleet_of(settings) as fleet:
        first = fleet.worker("w1", "piper", 2)
        _, url = fleet.gateway()
        async with open_bus(settings, "test") as bus, ClientSession(url) as http, asyncio.timeout(120):
            await ready(http, "")
            await install(bus, http, tmp_path, NAME)
            async with http.post("/v1/audio/speech", json=speech(NAME, text)) as answer:
                body = Body(answer)
                await body.at_least(100_000)
                first.kill()  # at once: the whole job takes a few seconds
                second = fleet.worker("w2", "piper", 2)
                audio = await body.rest()
            assert second.events("job.started")[0]["frame"] > 0
            whole, cache, _ = await spoken(http, NAME, text=text, seed=0, lane="batch")
            assert (cache, whole == audio) == ("miss", True)
