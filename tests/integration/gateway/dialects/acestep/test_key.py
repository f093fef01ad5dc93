"""ACE-Step's clients put their key into the body: it counts there as it would in a header."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from tests.support import fleets
from tests.support.acestep_client import song
from tests.support.fleets import Stack

stack = fleets.stack("tone", 2, gateway_flags=("--no-anonymous",))


class Keyed(NamedTuple):
    http: aiohttp.ClientSession
    acme: str
    globex: str
    #: Whose key `globex` is: a tenant without a job, like the other.
    tenant: str

    async def post(self, path: str, body: dict[str, Any], **more: Any) -> tuple[int, Any]:
        async with self.http.post(path, **{"json": body} | more) as answer:
            return answer.status, await answer.json()

    async def jobs_of(self, key: str) -> list[str]:
        async with self.http.get("/v1/jobs", headers={"xi-api-key": key}) as answer:
            assert answer.status == 200
            return [job["id"] for job in (await answer.json())["jobs"]]


@pytest.fixture
async def keyed(stack: Stack) -> AsyncIterator[Keyed]:
    tenants = [f"{name}-{secrets.token_hex(4)}" for name in ("acme", "globex")]
    async with fleets.asking(stack.url) as http:
        async with open_bus(stack.settings, "test") as bus:
            acme, globex = [
                (await Keys(bus).create(tenant, limits))[1]
                for tenant, limits in zip(tenants, (Limits(requests_per_s=0.001, burst=3), Limits()), strict=True)
            ]
        async with asyncio.timeout(30):
            while {(await http.get("/v1/jobs", headers={"xi-api-key": key})).status for key in (acme, globex)} != {200}:
                await asyncio.sleep(0.02)
        yield Keyed(http, acme, globex, tenants[1])


async def test_a_key_in_the_body_says_whose_task_it_is_and_who_may_ask_for_it(keyed: Keyed) -> None:
    status, told = await keyed.post("/release_task", song(batch_size=1, ai_token=keyed.globex))
    assert status == 200
    task = told["data"]["task_id"]
    assert await keyed.jobs_of(keyed.globex) == [f"{task}-0"]
    asked = {"task_id_list": [task]}
    async with asyncio.timeout(20):
        while (entry := await _entry(keyed, asked, keyed.globex))["status"] == 0:
            await asyncio.sleep(0.02)
    assert entry["status"] == 1
    # Somebody else's task is one that nobody knows.
    assert "no job" in (await _entry(keyed, asked, keyed.acme))["error"]
    for body in (asked, song(batch_size=1)):
        path = "/query_result" if body is asked else "/release_task"
        for wrong in ({}, {"ai_token": ""}, {"ai_token": 7}, {"ai_token": "sk-x"}, {"ai_token": keyed.globex[:-1]}):
            status, told = await keyed.post(path, {**body, **wrong})
            assert (status, list(told)) == (401, ["detail"])


@pytest.mark.parametrize("kind", ["urlencoded", "multipart", "json that says it is a form"])
async def test_bodies_of_every_kind_may_have_the_key(keyed: Keyed, kind: str) -> None:
    body = {name: str(value) for name, value in song(batch_size=1, ai_token=keyed.globex).items()}
    if kind == "multipart":
        with aiohttp.MultipartWriter("form-data") as form:
            for name, value in body.items():
                form.append(value).set_content_disposition("form-data", name=name)
        sent: dict[str, Any] = {"data": form}
    elif kind == "urlencoded":
        sent = {"data": body}
    else:
        form_type = {"Content-Type": "application/x-www-form-urlencoded"}
        sent = {"data": json.dumps(body), "headers": form_type}
    async with keyed.http.post("/release_task", **sent) as answer:
        assert answer.status == 200, await answer.text()


async def test_two_different_keys_are_refused_and_the_same_twice_is_one(keyed: Keyed) -> None:
    headers = {"Authorization": f"Bearer {keyed.acme}"}
    body = {"task_id_list": []}
    status, told = await keyed.post("/query_result", {**body, "ai_token": keyed.globex}, headers=headers)
    assert (status, "two different keys" in told["detail"]) == (401, True)
    assert (await keyed.post("/query_result", {**body, "ai_token": keyed.acme}, headers=headers))[0] == 200


async def test_the_limits_of_a_key_hold_wherever_it_is_shown_and_it_counts_once(keyed: Keyed, stack: Stack) -> None:
    asked: list[int] = []
    for number in range(4):
        fields = song(batch_size=1, **({"ai_token": keyed.acme} if number % 2 else {}))
        headers = {} if number % 2 else {"Authorization": keyed.acme}
        asked.append((await keyed.post("/release_task", fields, headers=headers))[0])
    assert asked == [200, 200, 200, 429]


async def test_a_body_that_cannot_be_read_is_refused_for_its_missing_key_first(keyed: Keyed, stack: Stack) -> None:
    for headers, status in (({}, 401), ({"xi-api-key": keyed.globex}, 400)):
        async with keyed.http.post("/release_task", data=b"{", headers=headers) as answer:
            assert answer.status == status


async def test_no_key_of_a_body_is_ever_logged_or_stored(keyed: Keyed, stack: Stack) -> None:
    body = song(batch_size=1, ai_token=keyed.globex, metas={"ai_token": "x"})
    _, told = await keyed.post("/release_task", body)
    await keyed.post("/release_task", {**body, "audio_format": keyed.globex})
    async with open_bus(stack.settings, "test") as bus:
        birth = await bus.logs.birth(bus.subjects.job_key(keyed.tenant, f"{told['data']['task_id']}-0"))
    assert birth is not None
    assert keyed.globex not in repr(birth)
    for program in (stack.gateway, stack.worker):
        assert keyed.globex not in program.log()


async def _entry(keyed: Keyed, asked: dict[str, Any], key: str) -> dict[str, Any]:
    status, told = await keyed.post("/query_result", {**asked, "ai_token": key})
    assert status == 200
    return dict(told["data"][0])
