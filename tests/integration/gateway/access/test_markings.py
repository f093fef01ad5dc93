"""How audio is marked as synthetic is the policy of its tenant, whichever API makes it."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bus import wire
from bus.access.keyring import KeyRing
from bus.access.keys import Keys, Limits
from bus.access.link_keys import LinkKeyStore
from bus.access.markings import Markings, MarkingStore
from bus.errors import Invalid
from bus.jobs.client import Bus
from bus.jobs.interest import LEFT
from bus.subjects import MARKINGS_ENTRY
from gateway.codecs import Format
from gateway.codecs.format import marks_of
from gateway.compose import Services
from tests.support import fleets
from tests.support.commands import json_of, on_bus
from tests.support.doors import SPEECH, accepted, gated, gateway_here, tone, until_state, wav_pcm
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

stack = fleets.stack("tone", 2)

BODY = tone(response_format="wav", params={"seconds": 0.3})


async def policies(gateway: Services, **of_tenants: Any) -> list[dict[str, str]]:
    """The header with a key of each tenant, once the gateway has their policies."""
    headers = []
    for tenant, marking in of_tenants.items():
        await MarkingStore(gateway.bus).set(tenant, marking)
        _, text = await Keys(gateway.bus).create(tenant, Limits())
        headers.append({"Authorization": f"Bearer {text}"})
    await gateway.keys.refresh()
    await eventually(lambda: gateway.fleet.card("tone"))
    return headers


async def spoken(http: aiohttp.ClientSession, key: dict[str, str], **more: Any) -> tuple[str, str, bytes]:
    """The job, `Antiphon-Marked` and the body of one request."""
    async with asyncio.timeout(30), http.post(SPEECH, json=BODY | more, headers=key) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["Antiphon-Job"], answer.headers["Antiphon-Marked"], await answer.read()


async def test_tenants_of_different_policies_never_share_a_run(stack: Stack) -> None:
    async with gateway_here(stack.settings, shared_cache=True) as (gateway, http):
        tagged, bare, same = await policies(gateway, acme=None, umbrella="none", initech="tag")
        first, second, third = [await spoken(http, key) for key in (tagged, bare, same)]
        assert [each[1] for each in (first, second, third)] == ["tag", "none", "tag"]
        assert first[0] == third[0] != second[0]
        assert f"Synthetic audio; generator=Antiphon; model=tone; version=v1; job={first[0]}.".encode() in first[2]
        assert b"Synthetic" not in second[2]
        assert {wav_pcm(each[2]) for each in (first, second)} == {tone_pcm(0.3)}
        assert wav_pcm(third[2]) == tone_pcm(0.3)


@pytest.mark.parametrize("codec", ["wav", "mp3", "opus", "aac", "flac", "pcm", "ulaw", "alaw"])
async def test_a_cached_body_and_a_file_bear_the_marks_that_their_header_says(stack: Stack, codec: str) -> None:
    async with gateway_here(stack.settings) as (gateway, http):
        (key,) = await policies(gateway, acme=None)
        job, marked, body = await spoken(http, key, response_format=codec)
        assert marked == marks_of(Format(codec), (await gateway.jobs.find(gateway.jobs.key("acme", job))).birth.job)
        assert (b"Synthetic audio" in body) == (marked == "tag") == (codec not in {"pcm", "ulaw", "alaw"})
        again = await spoken(http, key, response_format=codec)
        assert again[:2] == (job, marked)
        assert (b"Synthetic audio" in again[2]) == (marked == "tag")
        async with http.get(f"/v1/jobs/{job}/audio?format={codec}", headers=key) as answer:
            assert (answer.headers["Antiphon-Marked"], b"Synthetic audio" in await answer.read()) == (
                marked,
                marked == "tag",
            )


async def test_a_body_that_went_on_with_another_run_answers_no_request_for_that_run(
    stack: Stack, tmp_path: Path
) -> None:
    """Its tag names the run that it began with."""
    async with gateway_here(stack.settings) as (gateway, http):
        (key,) = await policies(gateway, acme=None)
        params = {"seconds": 0.5, **gated(tmp_path / "open", 1, block_ms=100)}
        body = tone(response_format="mp3", params=params)
        async with asyncio.timeout(30), http.post(SPEECH, json=body, headers=key) as answer:
            job = answer.headers["Antiphon-Job"]
            await gateway.bus.logs.end(gateway.jobs.key("acme", job), wire.End.CANCELLED, LEFT)
            (tmp_path / "open").touch()
            assert f"job={job}.".encode() in await answer.read()
        async with asyncio.timeout(30), http.post(SPEECH, json=body, headers=key) as answer:
            assert (answer.headers["Antiphon-Cache"], answer.headers["Antiphon-Job"]) == ("hit", f"{job}-1")
            assert f"job={job}-1.".encode() in await answer.read()


async def test_a_policy_changes_no_accepted_job_and_a_repeat_attaches_to_it(stack: Stack) -> None:
    async with gateway_here(stack.settings, marking="none") as (gateway, http):
        (key,) = await policies(gateway, acme=None)
        async with aiohttp.ClientSession(str(http._base_url), headers=key) as owner:
            body = tone(id="mine", params={"seconds": 0.3})
            job = await accepted(owner, body)
            await until_state(owner, job, "done")
            await policies(gateway, acme="tag")
            async with owner.post("/v1/jobs", json=body) as answer:
                assert (answer.status, (await answer.json())["id"]) == (200, job)
            async with owner.get(f"/v1/jobs/{job}/audio") as answer:
                assert answer.headers["Antiphon-Marked"] == "none"
            async with owner.get(f"/v1/jobs/{job}/blocks/0") as answer:
                assert answer.headers["Antiphon-Marked"] == "none"
            assert (await spoken(owner, key))[1] == "tag"


async def test_a_policy_that_cannot_be_kept_refuses_the_request(stack: Stack) -> None:
    async with gateway_here(stack.settings, marking="inaudible") as (gateway, http):
        await policies(gateway)
        async with http.post(SPEECH, json=BODY) as answer:
            problem = await answer.json()
            assert (answer.status, problem["error"]["code"]) == (503, "no_worker")
            assert (
                "has to be marked 'inaudible', and the workers of tone have no watermark" in problem["error"]["message"]
            )
        gateway.keys.bucket.is_loaded = False
        async with http.post(SPEECH, json=BODY) as answer:
            assert answer.status == 503
            assert "markings of tenants have not been read" in await answer.text()


async def test_an_operator_sets_lists_and_removes_policies(bus: Bus) -> None:
    ring = KeyRing(bus)
    await Keys(bus).create("acme", Limits())
    await LinkKeyStore(bus).ensure()
    assert await json_of(bus, "keys", "marking", "acme", "none") == {"tenant": "acme", "marking": "none"}
    await json_of(bus, "keys", "marking", "umbrella", "inaudible")
    await ring.refresh()
    assert of_tenants(ring) == {"acme": "none", "umbrella": "inaudible"}
    assert len(await Keys(bus).all()) == 1
    await json_of(bus, "keys", "marking", "acme", "default")
    assert (await json_of(bus, "keys", "marking"))["markings"] == [{"tenant": "umbrella", "marking": "inaudible"}]
    await ring.refresh()
    assert of_tenants(ring) == {"umbrella": "inaudible"}
    for code, arguments, says in (
        (2, ("acme", "signed"), "C2PA needs a signer with a certificate"),
        (2, ("acme", "loud"), "must be one of none, tag, inaudible, default; not 'loud'"),
        (2, ("acme",), "none was given"),
        (1, ("a.b", "tag"), "tenant: 'a.b' must be"),
    ):
        run = await on_bus(bus, "keys", "marking", *arguments)
        assert run.returncode == code, run.stderr
        assert says in " ".join(run.stderr.split())
    with pytest.raises(Invalid, match="signed"):
        await MarkingStore(bus).set("acme", "signed")


async def test_a_policy_that_this_version_does_not_know_is_refused_and_of_no_other_tenant(stack: Stack) -> None:
    """A weaker mark must not take its place. A record that an operator deletes by hand is gone."""
    async with gateway_here(stack.settings) as (gateway, http):
        bus = gateway.bus
        known, unknown = await policies(gateway, acme="none", umbrella=None)
        await bus.js.publish(bus.subjects.markings, b'{"tenants": {"acme": "none", "umbrella": "sung"}}')
        await gateway.keys.refresh()
        async with http.post(SPEECH, json=BODY, headers=unknown) as answer:
            assert (answer.status, "has to be marked 'sung'" in await answer.text()) == (503, True)
        assert (await spoken(http, known))[1] == "none"
        await bus.js.publish(bus.subjects.markings, b"", {"KV-Operation": "DEL"})
        await gateway.keys.refresh()
        assert (await spoken(http, known))[1] == "tag"


def of_tenants(ring: KeyRing) -> dict[str, str]:
    """The markings that a ring has read."""
    record = ring.bucket.entries[MARKINGS_ENTRY]
    assert isinstance(record, Markings)
    return record.tenants
