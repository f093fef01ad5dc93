"""Links that need no header, by a gateway that requires keys."""

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from bus.access import revoked_links
from bus.access.keys import Keys, Limits
from bus.access.link_keys import MAX_LINK_S
from bus.access.revoked_links import RevokedLinks
from bus.errors import TooMany
from bus.jobs.client import open_bus
from gateway.compose import Services
from tests.support import fleets
from tests.support.commands import json_of
from tests.support.doors import accepted, gateway_here, until_state, wav_head_bytes
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

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
            assert (answer.status, answer.content_length) == (200, wav_head_bytes(job) + 24_000)
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


async def test_where_no_key_is_needed_a_link_opens_the_job_at_a_gateway_that_requires_keys_too(stack: Stack) -> None:
    async with fleets.asking(stack.url) as http, gateway_here(stack.settings, anonymous=False) as (gateway, strict):
        job = await accepted(http, {"model": "tone", "input": "x", "params": {"seconds": 0.5}})
        link = (await made(http, job, {}))["links"]["audio"]
        assert await status(http, f"/v1/jobs/{job}/audio?token=al.x.y.z") == 401
        async with http.post("/v1/jobs/unknown/links") as answer:
            assert answer.status == 404
        await gateway.keys.refresh()
        async with strict.get(f"{link}&format=pcm") as answer:
            assert (answer.status, await answer.read()) == (200, tone_pcm(0.5))
        assert await status(strict, f"/v1/jobs/{job}/audio") == 401


async def test_a_revoked_link_opens_nothing_at_any_gateway_and_its_neighbours_go_on(stack: Stack) -> None:
    settings = stack.settings
    async with gateway_here(settings, anonymous=False) as (one, http), gateway_here(settings) as (other, http2):
        ((_, key), (_, foreign)) = await keys_of(one, "acme", "umbrella")
        async with aiohttp.ClientSession(str(http._base_url), headers=key) as owner:
            job = await accepted(owner, {"model": "tone", "input": "x", "params": {"seconds": 0.5}})
            await until_state(owner, job, "done")
        first, second = [await made(http, job, key) for _ in range(2)]
        await other.keys.refresh()
        path = f"/v1/jobs/{job}/links/{first['id']}"
        async with http.delete(path, headers=foreign) as answer:
            assert answer.status == 404
        async with http.delete(path, params={"token": first["token"]}) as answer:
            assert answer.status == 401
        for each in (first, second):
            assert await status(http2, each["links"]["audio"]) == 200
        for _ in range(2):
            async with http.delete(path, headers=key) as answer:
                assert (answer.status, await answer.read()) == (204, b"")
        for client in (http, http2):
            assert {await status(client, link) for link in first["links"].values()} == {401}
            assert {await status(client, link) for link in second["links"].values()} == {200}
        for wrong in (f"/v1/jobs/{job}/links/nonsense", f"/v1/jobs/unknown/links/{first['id']}"):
            async with http.delete(wrong, headers=key) as answer:
                assert answer.status == 404


async def test_a_link_does_not_open_a_later_job_of_the_same_id(stack: Stack) -> None:
    async with gateway_here(stack.settings, anonymous=False) as (gateway, http):
        ((_, key),) = await keys_of(gateway, "acme")
        link = ""
        async with aiohttp.ClientSession(str(http._base_url), headers=key) as owner:
            for attempt in range(2):
                async with owner.put("/v1/jobs/mine", json={"model": "tone", "input": "x"}) as answer:
                    assert answer.status == 202
                await until_state(owner, "mine", "done")
                if attempt == 0:
                    link = (await made(http, "mine", key))["links"]["audio"]
                    assert await status(http, link) == 200
                    name = gateway.bus.subjects.job_key("acme", "mine").everything
                    await gateway.bus.js.api(f"STREAM.PURGE.{gateway.bus.subjects.replies_stream}", {"filter": name})
        assert await status(http, link) == 401
        assert await status(http, (await made(http, "mine", key))["links"]["audio"]) == 200


async def test_a_tenant_revokes_so_many_links_at_a_time_and_another_one_goes_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked_links, "MAX_REVOKED", 3)
    async with gateway_here(stack.settings) as (gateway, _):
        revoked = RevokedLinks(gateway.bus)
        await asyncio.gather(*(revoked.add("greedy", f"link{number}") for number in range(3)))
        assert [await revoked.has("greedy", f"link{number}") for number in range(4)] == [True, True, True, False]
        with pytest.raises(TooMany, match="tenant greedy has revoked 3 links") as raised:
            await revoked.add("greedy", "link3")
        assert 0 < raised.value.retry_after_s <= MAX_LINK_S
        await revoked.add("greedy", "link1")
        await revoked.add("modest", "link3")
        assert await revoked.has("modest", "link3")
        monkeypatch.setattr(gateway.bus.clock, "now", lambda: time.time() + MAX_LINK_S + 60)
        await revoked.add("greedy", "link3")
        assert [await revoked.has("greedy", f"link{number}") for number in range(4)] == [False, False, False, True]


async def test_the_caller_of_a_web_token_makes_links_and_a_command_ends_them_all(stack: Stack, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    program, url = stack.fleet.gateway("--no-anonymous", "--jwt-secret-file", str(secret))
    token = jwt.encode({"tenant": "acme", "sub": "someone"}, "s" * 32, "HS256")
    owner = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(url) as http:
        async with asyncio.timeout(30):
            while await status(http, "/readyz") != 200:
                await asyncio.sleep(0.02)
        async with aiohttp.ClientSession(url, headers=owner) as mine:
            job = await accepted(mine, {"model": "tone", "input": "x", "params": {"seconds": 0.5}})
            await until_state(mine, job, "done")
        link = (await made(http, job, owner))["links"]["audio"]
        assert await status(http, link) == 200
        async with open_bus(stack.settings, "operator", declare=False) as bus:
            kept = await json_of(bus, "keys", "rotate-links")
            assert (kept["ended_links"], await status(http, link)) == (False, 200)
            listed = await json_of(bus, "keys", "list")
            assert "links" not in {each["id"] for each in listed["keys"]}
            ended = await json_of(bus, "keys", "rotate-links", "--end-links")
            assert ended["ended_links"]
        async with asyncio.timeout(20):
            while await status(http, link) != 401:
                await asyncio.sleep(0.02)
        async with asyncio.timeout(20):
            while await status(http, (await made(http, job, owner))["links"]["audio"]) != 200:
                await asyncio.sleep(0.02)
    assert program.events("keys.entry_invalid") == []
