"""A worker killed in mid-stream while it speaks or sings: the listener hears what one worker alone would have made."""

import asyncio
import hashlib
import os
import signal
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.kokoro_model import random_model
from tests.support.piper_voice import random_voices
from tests.support.programs import Fleet, host_pid
from tests.support.web import OWN_RUN, Body, ready, speech, sse, state

#: Seconds each: they run with the slow ones, in CI too.
pytestmark = pytest.mark.slow

#: About eight minutes of speech: it takes seconds to make, so there is a middle to be killed in.
STORY = " ".join(f"This is sentence number {number}, and it is like no other." for number in range(1, 130))
#: The same, spoken by three in turn, six sentences each.
TURNS = [
    {
        "speaker": f"{number % 3}",
        "text": " ".join(f"This is sentence {number}, and it is like no other." for _ in range(6)),
    }
    for number in range(1, 22)
]
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("speech", speech("speech", STORY, voice="en-us"), 2_000_000),
    ("piper", speech("piper", STORY, voice="en_US-random-low", seed=7), 2_000_000),
    ("kokoro", speech("kokoro", STORY, voice="af_random"), 2_000_000),
    ("speech", speech("speech", "", script=TURNS), 2_000_000),
    ("piper", speech("piper", "", script=TURNS, voice="en_US-random-low"), 2_000_000),
    ("kokoro", speech("kokoro", "", script=TURNS, voice="af_random"), 2_000_000),
    ("music", speech("music", "a calm evening by the sea, piano and strings", seconds=30), 1_000_000),
]
IDS = [f"{model}-script" if "script" in body else model for model, body, _ in CASES]


async def marks_of(http: ClientSession, url: str, job: str) -> list[dict[str, Any]]:
    async with http.get(f"{url}/v1/jobs/{job}/marks") as answer:
        assert answer.status == 200, await answer.text()
        marks: list[dict[str, Any]] = (await answer.json())["marks"]
        return marks


@pytest.mark.parametrize("ack_wait_s", [30.0])
@pytest.mark.parametrize("victim", ["worker", "host"])
@pytest.mark.parametrize(("model", "body", "kill_after_bytes"), CASES, ids=IDS)
async def test_kill_minus_9_in_mid_stream_leaves_every_sample_as_it_was(
    fleet: Fleet, http: ClientSession, model: str, body: dict[str, Any], kill_after_bytes: int, victim: str
) -> None:
    """A worker with a second, equal one up; or an engine host alone, under the only worker. Nor a word's time changes."""
    names = ("w1", "w2") if victim == "worker" else ("w1",)
    options = [f"piper.voices={random_voices()}", f"kokoro.model={random_model()}"]
    flags = [each for option in options for each in ("--engine-option", option)]
    workers = {name: fleet.worker(name, model, 8, *flags) for name in names}
    _, url = fleet.gateway()
    await ready(http, url)
    async with asyncio.timeout(180):
        async with http.post(f"{url}/v1/audio/speech", json=body, headers=OWN_RUN) as response:
            assert response.status == 200, await response.text()
            undisturbed = await response.read()
            marks = await marks_of(http, url, response.headers["Antiphon-Job"])
        assert len(undisturbed) > 2 * kill_after_bytes
        async with http.post(f"{url}/v1/audio/speech", json=body, headers=OWN_RUN) as response:
            heard = Body(response)
            await heard.at_least(kill_after_bytes)
            status = await state(http, url, heard.job)
            assert status["state"] == "running", "it was over before it could be killed"
            worker = workers[status["worker"]]
            if victim == "worker":
                worker.kill()
            else:
                os.kill(host_pid(worker), signal.SIGKILL)
            await heard.rest()
            async with http.get(f"{url}/v1/jobs/{heard.job}/events") as answer:
                started = [name async for _, name, _ in sse(answer) if name == "started"]
        assert len(started) == 2, "nobody had to take over"
        assert await marks_of(http, url, heard.job) == marks
        assert (len(marks) > 1000) == (model != "music"), "of which so many are words, in every second of it"
    assert len(heard.data) == len(undisturbed)
    assert hashlib.sha256(heard.data).digest() == hashlib.sha256(undisturbed).digest()
