"""A stranger puts another tenant's ids into every place of every route that the OpenAPI document has."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest

from bus.access.keys import Keys, Limits
from bus.settings import BusSettings
from gateway.compose import Services
from tests.support.doors import SPEECH, STEADY, accepted, gateway_here, state_of, tone, until_state
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm
from tests.support.walk import IdPlace, Route, ask, names_in, routes, unknown_id_like
from tests.support.web import base_of

WORDS = "no other tenant may read this"
OTHER_WORDS = "the words of the stranger"
ONCE = "a key that many use"
#: Names of fields that hold an id, or a name that leads to one.
ID_LIKE = re.compile(r"(^|_|-)(id|ids|path|job|jobs|task|key|url|token|list|of|locators)$", re.IGNORECASE)
#: Names that lead to nothing of a tenant's: those of other servers' objects, where a webhook is sent, voices.
FOREIGN = {"pronunciation_dictionary_id", "version_id", "url", "voice_id"}
OPEN_SOCKETS = {
    "/v1/audio/speech/stream",
    "/v1/text-to-speech/{voice_id}/stream-input",
    "/v1/text-to-speech/{voice_id}/multi-stream-input",
    "/v1/text-to-dialogue/multi-stream-input",
}


@asynccontextmanager
async def two_tenants(
    settings: BusSettings,
) -> AsyncIterator[tuple[Services, aiohttp.ClientSession, aiohttp.ClientSession]]:
    """A gateway that requires keys, the owner, and the stranger."""
    async with gateway_here(settings, anonymous=False) as (gateway, http):
        texts = [(await Keys(gateway.bus).create(tenant, Limits()))[1] for tenant in ("owner", "stranger")]
        await gateway.keys.refresh()
        keys = [{"Authorization": f"Bearer {text}"} for text in texts]
        async with (
            aiohttp.ClientSession(base_of(http), headers=keys[0]) as owner,
            aiohttp.ClientSession(base_of(http), headers=keys[1]) as stranger,
        ):
            async with asyncio.timeout(30):
                while (await owner.get("/v1/voices?model=unknown")).status != 404:  # it knows all workers
                    await asyncio.sleep(0.01)
            yield gateway, owner, stranger


async def owned(owner: aiohttp.ClientSession) -> list[str]:
    """Ids of jobs that the owner made by several APIs: one runs, the others are done. All with one Idempotency-Key."""
    key = {"Idempotency-Key": ONCE}
    made = [await accepted(owner, tone(input=WORDS, params={"seconds": 600, **STEADY}))]
    short = {"model": "tone", "params": {"seconds": 0.1}}
    for path, body in (
        ("/v1/jobs", {**short, "input": WORDS}),
        (SPEECH, {**short, "input": WORDS, "response_format": "pcm"}),
        ("/v1/text-to-speech/any", {"model_id": "tone", "text": WORDS, "params": {"seconds": 0.1}}),
        ("/api/generate", {**short, "prompt": WORDS}),
        ("/release_task", {"model": "tone", "prompt": WORDS, "audio_duration": 0.1, "batch_size": 1}),
    ):
        async with owner.post(path, json=body, headers=key) as answer:
            assert answer.status in {200, 202}, await answer.text()
            made.append(answer.headers["Antiphon-Job"])
            await answer.read()
    async with owner.post(SPEECH, json={**short, "input": WORDS, "response_format": "pcm"}) as answer:
        made.append(answer.headers["Antiphon-Job"])
        assert answer.headers["Antiphon-Cache"] == "miss"
    for job_id in made[1:]:
        await until_state(owner, job_id, "done", within_s=30)
    await until_state(owner, made[0], "running", within_s=30)
    return [*made, made[-2].removesuffix("-0")]


def places_with(route: Route, ids: list[str]) -> list[tuple[IdPlace, str]]:
    """Every place of a route with every id; with those of two jobs only, if each request makes a job."""
    if not route.makes_work:
        return [(place, job_id) for place in route.places for job_id in ids]
    return [(place, job_id) for place in route.places for job_id in (ids[0], ids[1])]


@pytest.mark.slow
async def test_a_strangers_request_gets_the_response_for_a_job_that_does_not_exist(
    bus_settings: BusSettings, fleet: Fleet
) -> None:
    fleet.worker("w1", "tone", 8)
    async with asyncio.timeout(280), two_tenants(bus_settings) as (_, owner, stranger):
        document = msgspec.json.decode(stranger_document := await read(stranger, "/openapi.json"))
        assert stranger_document == await read(owner, "/openapi.json")
        walked = [route for route in routes(document, OTHER_WORDS) if route.path not in OPEN_SOCKETS]
        assert len(walked) > 35
        ids = await owned(owner)
        mine = await read(owner, "/v1/jobs?limit=1000")
        num_requests = 0
        for route in sorted(walked, key=lambda each: each.makes_work):
            default = "unknown-" + "0" * 25
            for place, job_id in places_with(route, ids):
                response = await ask(stranger, route, place, job_id, default)
                as_never = await ask(stranger, route, place, unknown_id_like(job_id), default)
                assert response == as_never, (route.method, route.path, place)
                assert WORDS not in response.body
                num_requests += 1
        print(f"\n{num_requests} places of {len(walked)} operations, with {len(ids)} ids of another tenant")
        assert num_requests > 400
        listed = await read(stranger, "/v1/jobs?limit=1000")
        assert WORDS.encode() not in listed
        # The owner has its jobs, and no other.
        assert await state_of(owner, ids[0]) == "running"
        assert names(await read(owner, "/v1/jobs?limit=1000")) == names(mine)
        assert await read(owner, f"/v1/jobs/{ids[1]}/audio?format=pcm") == tone_pcm(0.1)


async def read(http: aiohttp.ClientSession, path: str) -> bytes:
    async with http.get(path) as answer:
        assert answer.status == 200
        return await answer.read()


def names(listed: bytes) -> list[str]:
    return [each["id"] for each in msgspec.json.decode(listed)["jobs"]]


async def test_there_is_no_place_for_an_id_that_is_not_walked(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (_, http):
        document = msgspec.json.decode(await read(http, "/openapi.json"))
    for route in routes(document, OTHER_WORDS):
        operation = document["paths"][route.path][route.method.lower()]
        content = operation.get("requestBody", {}).get("content", {})
        found = {name for each in content.values() for name in names_in(document, each["schema"])}
        found |= {each["name"] for each in operation["parameters"]} | set(re.findall(r"\{(\w+)\}", route.path))
        missing = {name for name in found if ID_LIKE.search(name)} - {place.name for place in route.places}
        if route.path.startswith("/v1/audio/speech"):
            missing -= {"id"}  # of a voice as an object
        assert missing <= FOREIGN, (route.method, route.path)


async def test_the_owners_idempotency_key_and_words_are_a_strangers_own_job(
    bus_settings: BusSettings, fleet: Fleet
) -> None:
    fleet.worker("w1", "tone", 8)
    body = {"model": "tone", "input": WORDS, "response_format": "pcm", "params": {"seconds": 0.1}}
    async with asyncio.timeout(60), two_tenants(bus_settings) as (_, owner, stranger):
        await owned(owner)
        for headers in ({}, {"Idempotency-Key": ONCE}):
            async with stranger.post(SPEECH, json=body, headers=headers) as answer:
                assert answer.headers.get("Antiphon-Cache", "miss") == "miss"
                assert await answer.read() == tone_pcm(0.1)
        async with stranger.post(
            SPEECH, json={**body, "input": OTHER_WORDS}, headers={"Idempotency-Key": ONCE}
        ) as again:
            assert again.status == 409  # the stranger's own
        assert len(names(await read(stranger, "/v1/jobs"))) == 2
