"""A share of the streams for each tenant: at one gateway, at several, and when one of them dies."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from bus.access.keys import Keys
from bus.jobs.client import Bus, open_bus
from tests.support.bus import until
from tests.support.doors import gated
from tests.support.fleets import small_bus
from tests.support.limits import Stack
from tests.support.programs import fleet_of
from tests.support.web import ready

MIB = 1 << 20
#: Live jobs may have 54.4 MiB of it, one tenant alone 48.3; one job 16 MiB, which are 349 s of `tone`.
STORE = 64 * MIB
#: 10.0 MiB.
SECONDS = 218.0


@pytest.fixture
async def pair(nats_url: str) -> AsyncIterator[tuple[Stack, Bus]]:
    """Two gateways before one worker with one slot, on small streams."""
    settings = small_bus(nats_url, jobs_max_bytes=8 * MIB, replies_max_bytes=STORE)
    with fleet_of(settings) as fleet:
        worker = fleet.worker("w1", "tone", 1, wait=False)
        gateways = [fleet.gateway(wait=False)[0] for _ in range(2)]
        worker.wait_for("worker.ready")
        urls = [str(each.wait_for("gateway.ready")["url"]) for each in gateways]
        async with open_bus(settings, "test") as bus, ClientSession() as http:
            for program, url in zip(gateways, urls, strict=True):
                await ready(http, url)
                await asyncio.to_thread(program.wait_for, "usage.gateway_joined", 1)
            yield Stack(fleet, settings, gateways, urls, Keys(bus)), bus


def large(gate: Path, **fields: Any) -> dict[str, Any]:
    """A job that waits at its first block for `gate`."""
    return {"model": "tone", "input": "x", "params": gated(gate, 0, seconds=SECONDS), **fields}


async def post(http: ClientSession, url: str, body: dict[str, Any], key: dict[str, str]) -> tuple[int, dict[str, Any]]:
    async with http.post(f"{url}/v1/jobs", json=body, headers=key) as answer:
        return answer.status, await answer.json()


async def test_a_tenant_at_its_share_of_the_store_is_refused_by_every_gateway_and_no_other_tenant(
    pair: tuple[Stack, Bus], tmp_path: Path
) -> None:
    stack, _ = pair
    gate = tmp_path / "open"
    acme, other = await stack.key("acme"), await stack.key("other")
    async with ClientSession() as http:
        accepted = []
        for n in range(4):
            status, job = await post(http, stack.urls[n % 2], large(gate), acme)
            assert status == 202
            accepted.append(job["id"])
        for url in stack.urls:  # each knows what both have accepted
            refusals: list[dict[str, Any]] = []

            async def is_refused(url: str = url, refusals: list[dict[str, Any]] = refusals) -> bool:
                status, body = await post(http, url, large(gate), acme)
                if status == 202:  # the last report was on its way
                    await http.delete(f"{url}/v1/jobs/{body['id']}", headers=acme)
                refusals.append(body)
                return status == 429

            await until(is_refused)
            problem = refusals[-1]
            assert (problem["code"], problem["limit"], problem["scope"]) == ("too_many", "stored_bytes", "tenant")
            for part in ("tenant acme", "10,464,", "bytes", f"{int(0.85 * STORE):,}"):
                assert part in problem["detail"]
        assert (await post(http, stack.urls[1], large(gate), other))[0] == 202
        assert (await post(http, stack.urls[0], large(gate, id=accepted[0]), acme))[0] == 200, "no job is made"
        # The pool as a whole: the other tenant has what acme left.
        third = await stack.key("third")

        async def is_full() -> bool:
            status, body = await post(http, stack.urls[0], large(gate), third)
            if status == 202:
                await http.delete(f"{stack.urls[0]}/v1/jobs/{body['id']}", headers=third)
            return (status, body.get("code"), "all tenants" in body.get("detail", "")) == (507, "storage_full", True)

        await until(is_full)
        for job_id in accepted:
            await http.delete(f"{stack.urls[0]}/v1/jobs/{job_id}", headers=acme)
        assert (await post(http, stack.urls[0], large(gate), acme))[0] == 202, "what has ended holds nothing"
        assert (await post(http, stack.urls[1], large(gate), acme))[0] == 202


@pytest.mark.slow
async def test_a_gateway_that_is_killed_leaks_nothing_and_forgets_nothing(
    pair: tuple[Stack, Bus], tmp_path: Path
) -> None:
    stack, _ = pair
    gate = tmp_path / "open"
    acme = await stack.key("acme")
    async with ClientSession() as http:
        for _ in range(4):
            assert (await post(http, stack.urls[0], large(gate), acme))[0] == 202
        await asyncio.to_thread(stack.gateways[0].kill)
        await asyncio.to_thread(stack.gateways[1].wait_for, "usage.gateway_left", 1)
        # Its jobs are in the queue; one that starts finds them there too.
        program, _ = await asyncio.to_thread(stack.fleet.gateway)
        url = str(program.wait_for("gateway.ready")["url"])
        await ready(http, url)
        for each in (stack.urls[1], url):

            async def is_refused(each: str = each) -> bool:
                status, body = await post(http, each, large(gate), acme)
                if status == 202:
                    await http.delete(f"{each}/v1/jobs/{body['id']}", headers=acme)
                return status == 429

            await until(is_refused)
        gate.touch()

        async def is_accepted() -> bool:
            return (await post(http, url, large(gate), acme))[0] == 202

        await until(is_accepted, 60)


async def test_one_tenants_large_messages_leave_room_in_the_queue(pair: tuple[Stack, Bus], tmp_path: Path) -> None:
    """Attack A6b: 85 queued jobs of 99 KB fill the queue of 8 MiB."""
    stack, bus = pair
    acme, other = await stack.key("acme"), await stack.key("other")
    text = "a " * 49_500
    body = {"model": "tone", "input": text, "params": gated(tmp_path / "open", 0, seconds=0.1)}
    async with ClientSession() as http:
        answers = [await post(http, stack.urls[n % 2], body, acme) for n in range(85)]
        statuses = [status for status, _ in answers]
        assert statuses[:40] == [202] * 40
        assert statuses[-1] == 429
        assert 202 not in statuses[statuses.index(429) + 2 :], "at most the other gateway's next"
        problem = answers[-1][1]
        assert (problem["limit"], problem["scope"]) == ("queued_bytes", "tenant")
        for url in stack.urls:
            assert (await post(http, url, body, other))[0] == 202
        info = await bus.js.info(bus.subjects.jobs_stream)
        # A message may be weighed a little below its size in the stream.
        assert info["state"]["bytes"] < 0.87 * 8 * MIB


async def test_what_is_small_is_not_reserved(nats_url: str, tmp_path: Path) -> None:
    """Two thousand sentences wait in a store that all of them together would overflow: they run a few at a time."""
    settings = small_bus(nats_url, replies_max_bytes=256 * MIB)
    with fleet_of(settings) as fleet:
        worker = fleet.worker("w1", "tone", 4, wait=False)
        program, _ = fleet.gateway(wait=False)
        url = str(program.wait_for("gateway.ready")["url"])
        worker.wait_for("worker.ready")
        async with ClientSession() as http:
            await ready(http, url)
            sentence = {"model": "tone", "input": "x" * 250, "params": gated(tmp_path / "open", 0, seconds=5.0)}
            for _ in range(2):
                async with http.post(f"{url}/v1/jobs:batch", data="\n".join([json.dumps(sentence)] * 1000)) as answer:
                    text = await answer.text()
                    assert (answer.ok, text.count("too_many"), text.count("storage_full")) == (True, 0, 0)
