"""`speech` is resolved to one voice when a request is accepted, and stays it: ADR 17."""

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientSession

from tests.support.piper_voice import write
from tests.support.programs import Fleet, Program
from tests.support.sockets import VLLM, connected
from tests.support.web import OWN_RUN, knows_every_model, speech, state, until_state

#: Seconds each: a worker with a voice takes two to start.
pytestmark = pytest.mark.slow

VOICE = "en_US-random-low"
ESPEAK = "en-us;model=speech;version=v1"
PIPER = re.compile(rf'{VOICE};model=piper;version=v1;sha256="(?P<digest>[0-9a-f]{{64}})"')


class Answer(NamedTuple):
    """One response with audio."""

    status: int
    voice: str
    cache: str | None
    job: str
    body: bytes


async def spoken(http: ClientSession, url: str, body: dict[str, Any], **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(f"{url}/v1/audio/speech", json=body, headers=named) as response:
        data = await response.read()
        assert response.status == 200, data
        own = response.headers
        return Answer(200, own["Antiphon-Voice"], own.get("Antiphon-Cache"), own["Antiphon-Job"], data)


async def put(http: ClientSession, url: str, job: str, **body: Any) -> tuple[int, str]:
    """The status, and the voice or the error."""
    async with http.put(f"{url}/v1/jobs/{job}", json={"input": "Good evening.", **body}) as response:
        return response.status, response.headers.get("Antiphon-Voice", "") or await response.text()


def piper(fleet: Fleet, name: str, folder: Path, *flags: str) -> Program:
    return fleet.worker(name, "piper", 4, "--engine-option", f"piper.voices={folder}", *flags)


async def until_offered(http: ClientSession, url: str, *, offered: bool = True) -> None:
    """Until `speech` has, or no longer has, voices of `piper`."""
    async with asyncio.timeout(20):
        while True:
            async with http.get(f"{url}/v1/voices?model=speech") as response:
                models = {voice["model"] for voice in (await response.json())["voices"]}
            if models == ({"speech", "piper"} if offered else {"speech"}):
                return
            await asyncio.sleep(0.05)


async def test_an_installation_between_two_equal_requests_changes_the_second_and_nothing_that_was_accepted(
    fleet: Fleet, http: ClientSession, tmp_path: Path
) -> None:
    fleet.worker("w1", "speech", 4)
    _, url = fleet.gateway()
    await knows_every_model(http, url)
    body = speech("tts-1", "Good evening.", voice="alloy", response_format="pcm")
    first = await spoken(http, url, body)
    keyed = await spoken(http, url, body, Idempotency_Key="k1")
    assert (first.voice, first.cache, keyed.voice) == (ESPEAK, "miss", ESPEAK)
    assert await put(http, url, "mine") == (202, ESPEAK)

    write(tmp_path, VOICE)
    worker = piper(fleet, "w2", tmp_path)
    await until_offered(http, url)

    second = await spoken(http, url, body)
    assert PIPER.fullmatch(second.voice)
    assert (second.cache, second.body == first.body) == ("miss", False)
    assert (await spoken(http, url, body)).cache == "hit"
    # Whoever names the voice that was accepted gets its run, and repeats attach to it.
    explicit = await spoken(http, url, {**body, "voice": "en-us"})
    assert (explicit.cache, explicit.job, explicit.body) == ("hit", first.job, first.body)
    again = await spoken(http, url, body, Idempotency_Key="k1")
    assert (again.voice, again.job, again.body) == (ESPEAK, keyed.job, keyed.body)
    assert await put(http, url, "mine") == (200, ESPEAK)
    status, error = await put(http, url, "mine", seed=7)
    assert (status, "exists with another body" in error) == (409, True)

    for own in ({"input": "<speak>Good evening.</speak>"}, {"params": {"pitch": 60}}, {"version": "v1"}):
        assert (await spoken(http, url, {**body, **own})).voice == ESPEAK
    assert PIPER.fullmatch((await spoken(http, url, {**body, "voice": "en_us-RANDOM"})).voice)

    # A removal is the same the other way round.
    worker.kill()
    await until_offered(http, url, offered=False)
    back = await spoken(http, url, body)
    assert (back.cache, back.job) == ("hit", first.job)


async def voices_of_jobs(http: ClientSession, url: str) -> set[tuple[str, str]]:
    async with http.get(f"{url}/v1/jobs") as response:
        return {(job["model"], job["voice"]) for job in (await response.json())["jobs"]}


async def test_a_conversation_keeps_its_voice_when_another_one_is_installed_or_removed(
    fleet: Fleet, http: ClientSession, tmp_path: Path
) -> None:
    fleet.worker("w1", "speech", 4)
    _, url = fleet.gateway()
    await knows_every_model(http, url)
    config = {"model": "tts-1", "voice": "alloy", "response_format": "pcm", "split_granularity": "sentence"}
    write(tmp_path / "two", VOICE)
    write(tmp_path / "one", "en_US-alpha-low", seed=3)
    theirs = f"{url}/v1/text-to-speech/alloy/multi-stream-input?output_format=pcm_22050"
    async with AsyncExitStack() as sockets:
        ours = await sockets.enter_async_context(connected(http, url + VLLM, **config))
        contexts = await sockets.enter_async_context(http.ws_connect(theirs))

        async def say(text: str) -> set[tuple[str, str]]:
            await ours.send_text(text)
            assert not (await ours.receive_until("session.done")).of_type("error")
            await contexts.send_json({"text": f"{text} ", "context_id": "c", "flush": True})
            await contexts.send_json({"close_context": True, "context_id": "c"})
            async with asyncio.timeout(20):
                while not (said := await contexts.receive_json()).get("isFinal"):
                    assert "error" not in said
            return await voices_of_jobs(http, url)

        assert await say("One is here.") == {("speech", "en-us")}
        worker = piper(fleet, "w2", tmp_path / "two")
        await until_offered(http, url)
        assert await say("Two is here.") == {("speech", "en-us")}
        # A new conversation has the new voice, and keeps it.
        ours = await sockets.enter_async_context(connected(http, url + VLLM, **config))
        await contexts.close()
        contexts = await sockets.enter_async_context(http.ws_connect(theirs))
        assert ("piper", VOICE) in await say("Three is here.")
        worker.kill()
        await until_offered(http, url, offered=False)
        write(tmp_path / "one", VOICE)
        piper(fleet, "w3", tmp_path / "one", "--engine-option", "piper.default_voice=en_US-alpha-low")
        await until_offered(http, url)
        found = await say("Four is here.")
        assert found == {("speech", "en-us"), ("piper", VOICE)}
        assert ("speech", "en-us") in await say("Пять уже здесь.")


async def test_a_job_is_refused_by_a_worker_that_has_another_voice_of_that_name(
    fleet: Fleet, http: ClientSession, tmp_path: Path
) -> None:
    """The same voice again speaks it: accepted jobs wait in the queue of the engine, not of a worker."""
    write(tmp_path / "old", VOICE)
    write(tmp_path / "new", VOICE, seed=5)
    worker = piper(fleet, "w1", tmp_path / "old")
    _, url = fleet.gateway()
    await knows_every_model(http, url)
    before = await spoken(http, url, speech("speech", "Good evening.", response_format="pcm"))
    found = PIPER.fullmatch(before.voice)
    assert found, "no worker offers `speech` itself, and its family answers"
    worker.kill()
    assert (await put(http, url, "later"))[0] == 202

    other = piper(fleet, "w2", tmp_path / "new")
    failed = await until_state(http, url, "later", "failed")
    assert failed["error"]["path"] == "voice"
    assert found["digest"] in failed["error"]["message"]
    after = await spoken(http, url, speech("speech", "Good evening.", response_format="pcm"))
    assert (after.cache, after.body == before.body) == ("miss", False)
    assert after.voice != before.voice
    other.kill()

    assert (await put(http, url, "latest", model="piper"))[0] == 202
    piper(fleet, "w3", tmp_path / "new")
    done = await until_state(http, url, "latest", "done")
    assert f'sha256="{done["voice_digests"][VOICE]}"' in after.voice


async def test_a_takeover_speaks_with_the_voice_that_was_resolved(
    fleet: Fleet, http: ClientSession, tmp_path: Path
) -> None:
    """Another voice is installed where the job goes on, one that would be chosen for the same request now."""
    story = " ".join(f"This is sentence number {number}, and it is like no other." for number in range(1, 100))
    write(tmp_path / "one", VOICE)
    write(tmp_path / "two", VOICE)
    write(tmp_path / "two", "en_US-alpha-low", seed=3)
    worker = piper(fleet, "w1", tmp_path / "one")
    _, url = fleet.gateway()
    await knows_every_model(http, url)
    body = speech("speech", story, response_format="pcm")
    async with asyncio.timeout(120):
        undisturbed = await spoken(http, url, body, **{name.replace("-", "_"): each for name, each in OWN_RUN.items()})
        async with http.post(f"{url}/v1/audio/speech", json=body, headers=OWN_RUN) as response:
            heard = await response.content.readexactly(200_000)
            worker.kill()
            piper(fleet, "w2", tmp_path / "two", "--engine-option", "piper.default_voice=en_US-alpha-low")
            heard += await response.read()
            job = response.headers["Antiphon-Job"]
        assert (await state(http, url, job))["attempts"] == 2, "it was over before the worker was killed"
    assert len(heard) == len(undisturbed.body)
    assert heard == undisturbed.body
