"""Jobs whose uploaded voice is deleted or replaced while they wait, run, or are taken over."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.blobs import becomes
from tests.support.clips import samples_of, tone_clip, upload
from tests.support.fleets import small_bus
from tests.support.programs import Fleet, fleet_of
from tests.support.waiting import eventually
from tests.support.web import Body, ready

pytestmark = pytest.mark.slow

FIRST, SECOND = tone_clip(pitch_hz=220), tone_clip(pitch_hz=330)
#: The device is free between two blocks, so a job of these can be stopped.
STEADY = {"block_ms": 100, "compute_ms": 100, "device": "own"}


@pytest.fixture
async def fleet(nats_url: str) -> AsyncIterator[Fleet]:
    with fleet_of(small_bus(nats_url, ack_wait_s=2.0)) as made:
        yield made


async def create(http: ClientSession, voice: object, **fields: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": "tone", "input": "x", "voice": voice, "params": {"seconds": 60, **STEADY}, **fields}
    async with http.post("/v1/jobs", json=body) as answer:
        return answer.status, await answer.json()


async def shown(http: ClientSession, job: str) -> dict[str, Any]:
    async with http.get(f"/v1/jobs/{job}") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def in_state(http: ClientSession, job: str, wanted: str) -> dict[str, Any]:
    async def state() -> str:
        return str((await shown(http, job))["state"])

    await becomes(state, wanted)
    return await shown(http, job)


async def delete(http: ClientSession, voice: object) -> None:
    async with http.delete(f"/v1/audio/voices/{voice}") as answer:
        assert answer.status == 200


async def test_a_job_that_waits_fails_when_its_voice_is_deleted(fleet: Fleet) -> None:
    first = fleet.worker("w1", "tone", 1)
    _, url = fleet.gateway()
    async with ClientSession(url) as http, asyncio.timeout(30):
        await ready(http, "")
        _, voice = await upload(http, "Ada", FIRST)
        first.kill()
        status, _ = await create(http, voice["id"], id="waiting")
        assert status == 202
        await delete(http, voice["id"])
        assert (await shown(http, "waiting"))["state"] == "queued"
        fleet.worker("w2", "tone", 1)
        failed = await in_state(http, "waiting", "failed")
        assert (failed["error"]["code"], failed["error"]["path"]) == ("voice_gone", "voice")
        assert str(voice["id"]) in failed["error"]["message"]
        assert (await create(http, voice["id"]))[0] == 422, "no job is accepted with it any more"


async def test_a_job_that_speaks_goes_on_when_its_voice_is_deleted(fleet: Fleet) -> None:
    fleet.worker("w1", "tone", 1)
    _, url = fleet.gateway()
    async with ClientSession(url) as http, asyncio.timeout(30):
        await ready(http, "")
        _, voice = await upload(http, "Ada", FIRST)
        _, job = await create(http, "Ada", params={"seconds": 2, **STEADY})
        async with http.get(f"/v1/jobs/{job['id']}/audio?format=pcm") as answer:
            audio = Body(answer)
            await audio.at_least(1)
            await delete(http, voice["id"])
            assert await audio.rest() == (samples_of(FIRST) * 2)[: 2 * 48_000]


async def test_a_repeat_attaches_after_its_voice_was_replaced(fleet: Fleet) -> None:
    fleet.worker("w1", "tone", 1)
    _, url = fleet.gateway()
    async with ClientSession(url) as http, asyncio.timeout(30):
        await ready(http, "")
        _, voice = await upload(http, "Ada", FIRST)
        assert (await create(http, "Ada", id="same", params={"seconds": 0.5}))[0] == 202
        await upload(http, "Ada", SECOND, replace="true")
        assert (await create(http, "Ada", id="same", params={"seconds": 0.5}))[0] == 200
        async with http.get("/v1/jobs/same/audio?format=pcm") as answer:
            assert await answer.read() == samples_of(FIRST)[:24_000]
        assert (await create(http, voice["id"], id="same", params={"seconds": 0.5}))[0] == 409, "another request"


async def test_nothing_of_a_clip_stays_on_a_worker_behind_its_job(fleet: Fleet, tmp_path: Path) -> None:
    fleet.worker("w1", "tone", 1, "--blob-cache", str(tmp_path))
    _, url = fleet.gateway()
    async with ClientSession(url) as http, asyncio.timeout(30):
        await ready(http, "")
        _, voice = await upload(http, "Ada", FIRST, ref_text="La la.")
        _, running = await create(http, "Ada")
        async with http.get(f"/v1/jobs/{running['id']}/audio?format=pcm") as answer:
            await Body(answer).at_least(1)
        assert [path.read_bytes() for path in tmp_path.glob("*/reference")] == [(await _sample(http, voice["id"]))]
        async with http.delete(f"/v1/jobs/{running['id']}") as answer:
            assert answer.status == 200
        await eventually(lambda: not list(tmp_path.rglob("*")))


async def _sample(http: ClientSession, voice: object) -> bytes:
    async with http.get(f"/v1/audio/voices/{voice}/sample") as answer:
        return await answer.read()


async def test_every_gateway_sees_a_change_of_another(fleet: Fleet) -> None:
    fleet.worker("w1", "tone", 1)
    (_, first), (_, second) = fleet.gateway(), fleet.gateway()
    async with ClientSession(first) as http, ClientSession(second) as other, asyncio.timeout(30):
        await ready(http, "")
        await ready(other, "")
        _, voice = await upload(http, "Ada", FIRST)
        async with other.get(f"/v1/audio/voices/{voice['id']}") as answer:
            assert (await answer.json())["digest"] == voice["digest"]

        async def accepted() -> int:
            return (await create(other, "Ada", params={"seconds": 0.1}))[0]

        await becomes(accepted, 202)
        await delete(other, "ada")
        async with http.get(f"/v1/audio/voices/{voice['id']}") as answer:
            assert answer.status == 404
        await becomes(lambda: _status(http, "Ada"), 422)


async def _status(http: ClientSession, voice: str) -> int:
    return (await create(http, voice, params={"seconds": 0.1}))[0]


@pytest.mark.parametrize("change", ["replaced", "deleted"])
async def test_a_takeover_speaks_with_the_clip_of_the_acceptance_or_fails(fleet: Fleet, change: str) -> None:
    first = fleet.worker("w1", "tone", 1)
    _, url = fleet.gateway()
    async with ClientSession(url) as http, asyncio.timeout(60):
        await ready(http, "")
        await upload(http, "Ada", FIRST)
        _, job = await create(http, "Ada", params={"seconds": 6, **STEADY})
        async with http.get(f"/v1/jobs/{job['id']}/audio?format=pcm") as answer:
            audio = Body(answer)
            await audio.at_least(48_000)
            if change == "replaced":
                await upload(http, "Ada", SECOND, replace="true")
            else:
                await delete(http, "Ada")
            first.kill()
            fleet.worker("w2", "tone", 1)
            if change == "replaced":
                assert await audio.rest() == (samples_of(FIRST) * 10)[: 6 * 48_000]
            else:
                failed = await in_state(http, job["id"], "failed")
                assert (failed["error"]["code"], failed["error"]["path"]) == ("voice_gone", "voice")
