"""Ids that identical requests share, when a bus user makes another job of that id."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from bus import wire
from bus.jobs.birth import digest
from bus.jobs.client import Bus, open_bus
from bus.jobs.submit import submit
from gateway.jobs.cache import with_generation
from tests.support import fleets
from tests.support.doors import SPEECH, tone, until_state
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm

PUBLIC = {"seconds": 0.2}

stack = fleets.stack()
http = fleets.http()


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    """In the hands of a tenant's own program."""
    async with open_bus(stack.settings, "test") as bus:
        yield bus


async def synthesize(http: aiohttp.ClientSession, text: str) -> tuple[int, str, bytes]:
    body = tone(input=text, response_format="pcm", params=PUBLIC)
    async with asyncio.timeout(30), http.post(SPEECH, json=body) as answer:
        return answer.status, str(answer.headers.get("Antiphon-Cache")), await answer.read()


def equal_job(text: str) -> wire.Job:
    """As a request for `text` becomes one; its id is no secret."""
    job = wire.Job(
        input=text,
        model="tone",
        version="v1",
        lane="interactive",
        tenant="public",
        params=PUBLIC,
        run_on=False,
    )
    return msgspec.structs.replace(job, id="c" + digest(msgspec.structs.replace(job, tenant=""))[:40])


async def plant(bus: Bus, http: aiohttp.ClientSession, job: wire.Job) -> None:
    """Publish another job under the id of `job`: the worker refuses it, and the id has a log that is none of ours."""
    poison: dict[str, Any] = {"input": "poison", "params": {"seconds": 0.1}, "run_on": True}
    await submit(bus, msgspec.structs.replace(job, **poison))
    await until_state(http, job.id, "failed")


def test_an_explicit_default_makes_no_other_job() -> None:
    job = equal_job("said")
    explicit = wire.decode(wire.Job, b'{"linger_s":0.0,"seed":0,"voice":"","retry_of":"",' + wire.encode(job)[1:])
    assert explicit == job
    assert digest(explicit) == digest(job)


async def test_an_id_that_equal_requests_share_is_not_a_callers_to_give(http: aiohttp.ClientSession) -> None:
    job = equal_job(uuid.uuid4().hex)
    for job_id in (job.id, f"{job.id}-1"):
        async with http.put(f"/v1/jobs/{job_id}", json={"model": "tone", "input": "poison"}) as answer:
            assert (answer.status, (await answer.json()).get("path")) == (422, "id")
        async with http.post("/v1/jobs", json={"model": "tone", "input": "poison", "id": job_id}) as answer:
            assert answer.status == 422


@pytest.mark.parametrize("generation", [0, 1])
async def test_another_job_of_that_id_never_answers_instead(
    bus: Bus, http: aiohttp.ClientSession, generation: int
) -> None:
    job = equal_job(uuid.uuid4().hex)
    if generation:
        assert await synthesize(http, job.input) == (200, "miss", tone_pcm(0.2))
        assert await synthesize(http, job.input) == (200, "hit", tone_pcm(0.2))
    await plant(bus, http, with_generation(job, generation))
    status, how, pcm = await synthesize(http, job.input)
    assert (status, how, pcm == tone_pcm(0.2), len(pcm)) == (200, "miss", True, 9600)
    assert await synthesize(http, job.input) == (200, "hit", tone_pcm(0.2))
