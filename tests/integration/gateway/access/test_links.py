"""Links that need no header, by a gateway that requires keys."""

import asyncio
from typing import Any

import aiohttp
import pytest

from bus.access.keys import Keys, Limits
from gateway.compose import Services
from tests.support import fleets
from tests.support.doors import accepted, gateway_here, until_state
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

stack = fleets.stack("tone", 2)


async def keys_of(gateway: Services, *tenants: str) -> list[tuple[str, dict[str, str]]]:
    """(id, header) of a new key of each tenant."""
    made = [await Keys(gateway.bus).create(tenant, Limits()) for tenant in tenants]
    await gateway.keys.refresh()
    await eventually(lambda: gateway.fleet.card("tone"))
    return [(key.id, {"Authorization": f"Bearer {text}"}) for key, text in made]


async def made(http: aiohttp.ClientSession, job: str, key: dict[str, str], **body: Any) -> dict[str, Any]:
    async with http.post(f"/v1/jobs/{job}/links", headers=key, json=body or None) as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


async def status(http: aiohttp.ClientSession, path: str, **more: Any) -> int:
    async with http.get(path, **more) as answer:
        return answer.status


async def test_a_link_serves_audio_and_events_and_nothing_else(stack: Stack) -> None:
    async with gateway_here(stack.settings, anonymous=False) as (gateway, http):
        (key_id, key), (_, other) = await keys_of(gateway, "acme", "umbrella")
        async with aiohttp.ClientSession(str(http._base_url), headers=key) as owner:
            job = await accepted(owner, {"model": "tone", "input": "x", "params": {"seconds": 0.5}})
            await until_state(owner, job, "done")
        found = await made(http, job, key)
        assert set(found["links"]) == {"audio", "file", "events", "marks"}
        async with http.get(found["links"]["audio"] + "&format=pcm") as answer:
            assert (answer.status, await answer.read()) == (200, tone_pcm(0.5))
        async with http.head(found["links"]["file"]) as answer:
            assert (answer.status, answer.content_length) == (200, 44 + 24_000)
        async with http.get(found["links"]["events"]) as answer:
            assert "event: done" in await answer.text()
        assert await status(http, found["links"]["marks"]) == 200
        token = found["token"]
        for path in (f"/v1/jobs/{job}", "/v1/jobs", f"/v1/jobs/{job}/blocks/0", "/v1/fleet", "/v1/models"):
            assert await status(http, f"{path}?token={token}") == 401, path
        async with http.delete(f"/v1/jobs/{job}?token={token}") as answer:
            assert answer.status == 401
        audio_only = await made(http, job, key, scopes=["audio"], expires_in_s=60)
        assert await status(http, f"/v1/jobs/{job}/events?token={audio_only['token']}") == 403
        assert await status(http, f"/v1/jobs/another/audio?token={token}") == 403
        assert await status(http, f"/v1/jobs/{job}/audio?token={token[:-1]}") == 401
        assert await status(http, f"/v1/jobs/{job}/audio") == 401
        # Another tenant's key beside the link is that tenant's request, for which the job does not exist.
        assert await status(http, found["links"]["audio"], headers=other) == 404
        async with http.post(f"/v1/jobs/{job}/links", headers=other) as answer:
            assert answer.status == 404
        await Keys(gateway.bus).revoke(key_id)
        await gateway.keys.refresh()
        assert await status(http, found["links"]["audio"]) == 401


async def test_a_link_ends(stack: Stack) -> None:
    async with gateway_here(stack.settings, anonymous=False) as (gateway, http):
        ((_, key),) = await keys_of(gateway, "acme")
        async with aiohttp.ClientSession(str(http._base_url), headers=key) as owner:
            job = await accepted(owner, {"model": "tone", "input": "x", "params": {"seconds": 0.5}})
            await until_state(owner, job, "done")
        link = (await made(http, job, key, expires_in_s=1))["links"]["audio"]
        async with asyncio.timeout(30):
            while await status(http, link) != 401:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"scopes": ["everything"]}, "scopes[0]"),
        ({"scopes": []}, "scopes"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"expires_in_s": 604_801}, "expires_in_s"),
        ({"expires": 5}, "expires"),
    ],
)
async def test_a_link_that_cannot_be_is_refused_by_field(stack: Stack, body: dict[str, Any], path: str) -> None:
    async with fleets.asking(stack.url) as http, http.post("/v1/jobs/any/links", json=body) as answer:
        assert (answer.status, (await answer.json())["path"]) == (422, path)


async def test_where_no_key_is_needed_a_link_has_no_token_and_a_wrong_token_is_refused(stack: Stack) -> None:
    async with fleets.asking(stack.url) as http:
        job = await accepted(http, {"model": "tone", "input": "x", "params": {"seconds": 0.5}})
        assert (await made(http, job, {}))["links"]["audio"] == f"/v1/jobs/{job}/audio"
        assert await status(http, f"/v1/jobs/{job}/audio?token=al.x.y.z") == 401
        async with http.post("/v1/jobs/unknown/links") as answer:
            assert answer.status == 404
