"""ACE-Step's clients put their key into the body, where it counts as in a header."""

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
    #: The tenant of the key `globex`. Neither tenant has a job yet.
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


async def test_a_key_in_the_body_determines_the_tasks_tenant(keyed: Keyed) -> None:
    status, response = await keyed.post("/release_task", song(batch_size=1, ai_token=keyed.globex))
    assert status == 200
    task = response["data"]["task_id"]
    assert await keyed.jobs_of(keyed.globex) == [f"{task}-0"]
    query = {"task_id_list": [task]}
    async with asyncio.timeout(20):
        while (entry := await _entry(keyed, query, keyed.globex))["status"] == 0:
            await asyncio.sleep(0.02)
    assert entry["status"] == 1
    # A task of another tenant is unknown.
    assert "no job" in (await _entry(keyed, query, keyed.acme))["error"]
    for body in (query, song(batch_size=1)):
        path = "/query_result" if body is query else "/release_task"
        for wrong in ({}, {"ai_token": ""}, {"ai_token": 7}, {"ai_token": "sk-x"}, {"ai_token": keyed.globex[:-1]}):
            status, response = await keyed.post(path, {**body, **wrong})
            assert (status, list(response)) == (401, ["detail"])


@pytest.mark.parametrize("kind", ["urlencoded", "multipart", "json with the type of a form"])
async def test_the_key_may_be_in_a_body_of_any_kind(keyed: Keyed, kind: str) -> None:
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
    status, response = await keyed.post("/query_result", {**body, "ai_token": keyed.globex}, headers=headers)
    assert (status, "two different keys" in response["detail"]) == (401, True)
    assert (await keyed.post("/query_result", {**body, "ai_token": keyed.acme}, headers=headers))[0] == 200


async def test_a_request_counts_once_against_its_key_in_any_place(keyed: Keyed, stack: Stack) -> None:
    statuses: list[int] = []
    for number in range(4):
        fields = song(batch_size=1, **({"ai_token": keyed.acme} if number % 2 else {}))
        headers = {} if number % 2 else {"Authorization": keyed.acme}
        statuses.append((await keyed.post("/release_task", fields, headers=headers))[0])
    assert statuses == [200, 200, 200, 429]


async def test_a_malformed_body_without_a_key_is_refused_for_the_key(keyed: Keyed, stack: Stack) -> None:
    for headers, status in (({}, 401), ({"xi-api-key": keyed.globex}, 400)):
        async with keyed.http.post("/release_task", data=b"{", headers=headers) as answer:
            assert answer.status == status


async def test_no_key_of_a_body_is_ever_logged_or_stored(keyed: Keyed, stack: Stack) -> None:
    body = song(batch_size=1, ai_token=keyed.globex, metas={"ai_token": "x"})
    _, response = await keyed.post("/release_task", body)
    await keyed.post("/release_task", {**body, "audio_format": keyed.globex})
    async with open_bus(stack.settings, "test") as bus:
        birth = await bus.logs.birth(bus.subjects.job_key(keyed.tenant, f"{response['data']['task_id']}-0"))
    assert birth is not None
    assert keyed.globex not in repr(birth)
    for program in (stack.gateway, stack.worker):
        assert keyed.globex not in program.log()


async def _entry(keyed: Keyed, query: dict[str, Any], key: str) -> dict[str, Any]:
    status, response = await keyed.post("/query_result", {**query, "ai_token": key})
    assert status == 200
    return dict(response["data"][0])
