"""`antiphon worker --models piper` over HTTP, with a voice of random weights that the test makes."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from aiohttp import ClientSession

from tests.support import assets
from tests.support.piper_voice import RATE_HZ, random_voices, write
from tests.support.programs import Fleet, Program, host_pid
from tests.support.web import OWN_RUN, Body, ready, speech, state

SENTENCES = " ".join(f"Ship number {number} sailed past the lighthouse, and came back." for number in range(12))


def served(fleet: Fleet, folder: os.PathLike[str] | str) -> Program:
    return fleet.worker("w1", "piper", 8, "--engine-option", f"piper.voices={folder}")


async def spoken(http: ClientSession, url: str, text: str, seed: int, voice: str = "en_US-random-low") -> bytes:
    body = speech("piper", text, voice=voice, seed=seed)
    async with http.post(f"{url}/v1/audio/speech", json=body, headers=OWN_RUN) as response:
        assert response.status == 200, await response.text()
        return await response.read()


@pytest.mark.slow
async def test_a_worker_serves_the_voices_of_a_folder(fleet: Fleet, http: ClientSession) -> None:
    served(fleet, random_voices())
    _, url = fleet.gateway()
    await ready(http, url)
    async with asyncio.timeout(60):
        one, same, other = [await spoken(http, url, "Good evening.", seed) for seed in (1, 1, 2)]
        assert len(one) > RATE_HZ // 2
        assert one == same != other
        async with http.get(f"{url}/v1/voices") as answer:
            listed = {voice["id"] for voice in (await answer.json())["voices"]}
        assert {"en_US-random-low", "en_US-two-low+bob"} <= listed


@pytest.mark.slow
async def test_a_damaged_voice_is_logged_and_the_worker_goes_on(
    fleet: Fleet, http: ClientSession, tmp_path: os.PathLike[str]
) -> None:
    write(tmp_path, "en_US-good-low")
    damaged = write(tmp_path, "en_US-bad-low")
    damaged.write_bytes(damaged.read_bytes()[:10_000])
    worker = served(fleet, tmp_path)
    _, url = fleet.gateway()
    await ready(http, url)
    async with asyncio.timeout(60):
        assert await spoken(http, url, "Good evening.", 1, "en_US-good-low")
        body = speech("piper", "Good evening.", voice="en_US-bad-low")
        async with http.post(f"{url}/v1/audio/speech", json=body) as response:
            assert response.status == 400
            assert "en_US-bad-low" in await response.text()
    assert "en_US-bad-low.onnx is not a whole ONNX file" in worker.wait_for("library.logged")["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "voice", "longest"),
    [
        (random_voices, "en_US-random-low", 600),
        pytest.param(lambda: assets.piper_joe().parent, "en_US-joe-medium", 60, id="joe"),
    ],
)
async def test_memory_is_flat_over_200_jobs(
    fleet: Fleet, http: ClientSession, folder: Callable[[], Path], voice: str, longest: int
) -> None:
    worker = served(fleet, folder())
    _, url = fleet.gateway()
    await ready(http, url)
    host = psutil.Process(host_pid(worker))
    sizes = []
    async with asyncio.timeout(500):
        for number in range(200):
            await spoken(http, url, SENTENCES[: 40 + number * 37 % longest], number, voice)
            sizes.append(host.memory_info().rss)
    print(f"MB after 20, 50, 200 jobs: {[max(part) >> 20 for part in (sizes[:20], sizes[20:50], sizes[150:])]}")
    assert max(sizes[150:]) < 1.1 * max(sizes[20:50])


@pytest.mark.slow
@pytest.mark.parametrize("ack_wait_s", [30.0])
async def test_kill_minus_9_of_the_worker_of_a_published_voice_leaves_every_sample_as_it_was(
    fleet: Fleet, http: ClientSession
) -> None:
    """Nobody named the voice: `speech` was resolved to it."""
    workers = {
        name: fleet.worker(name, "piper", 8, "--engine-option", f"piper.voices={assets.piper_joe().parent}")
        for name in ("w1", "w2")
    }
    _, url = fleet.gateway()
    await ready(http, url)
    body = speech("speech", " ".join([SENTENCES] * 3), response_format="pcm", seed=3)
    async with asyncio.timeout(200):
        async with http.post(f"{url}/v1/audio/speech", json=body, headers=OWN_RUN) as response:
            assert response.headers["Antiphon-Voice"].startswith("en_US-joe-medium;model=piper;")
            undisturbed = await response.read()
        async with http.post(f"{url}/v1/audio/speech", json=body, headers=OWN_RUN) as response:
            heard = Body(response)
            await heard.at_least(500_000)
            status = await state(http, url, heard.job)
            assert status["state"] == "running", "it was over before it could be killed"
            workers[status["worker"]].kill()
            await heard.rest()
        assert (await state(http, url, heard.job))["attempts"] == 2
    assert len(undisturbed) > 3_000_000
    assert heard.data == undisturbed
