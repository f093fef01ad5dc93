"""Logs whose birth holds values that no API accepts: written before jobs were validated on the bus, or damaged."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bus import wire
from bus.jobs.client import Bus, open_bus
from gateway.dialects.acestep.task import new_task
from tests.support import fleets
from tests.support.doors import accepted, tone, until_state
from tests.support.fleets import Stack

stack = fleets.stack()
http = fleets.http()


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test", declare=False) as bus:
        yield bus


async def born(bus: Bus, job: dict[str, Any], **birth: Any) -> str:
    """Write the birth of a job with these fields; returns its id."""
    job_id = job.get("id", f"b{secrets.token_hex(4)}")
    complete = {"input": "x", "id": job_id, "model": "tone", "version": "v1", "lane": "standard", "tenant": "public"}
    fields = {"digest": "", "queue_seq": 10**9, "accepted_at": 1_800_000_000.0, **birth}
    body = wire.encode({"job": {**complete, **job}, **fields})
    await bus.js.publish(bus.subjects.job_key("public", job_id).birth, body)
    return job_id


async def listed(http: aiohttp.ClientSession) -> dict[str, dict[str, Any]]:
    async with http.get("/v1/jobs?limit=1000") as answer:
        assert answer.status == 200, await answer.text()
        return {job["id"]: job for job in (await answer.json())["jobs"]}


@pytest.mark.parametrize(
    ("job", "birth", "field", "shown"),
    [
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, {}, "expires_at", "9999-12-31T23:59:59Z"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, {}, "expires_at", "0001-01-01T00:00:00Z"),
        ({"linger_s": 1e300}, {}, "lane", "standard"),
        ({"seed": 10**30, "params": {"a": 10**400}}, {}, "lane", "standard"),
        ({"first_audio_deadline_s": 1e300}, {}, "lane", "standard"),
        ({}, {"accepted_at": 1e300}, "accepted_at", "9999-12-31T23:59:59Z"),
        ({}, {"accepted_at": -1e300}, "accepted_at", "0001-01-01T00:00:00Z"),
    ],
)
async def test_a_job_with_values_outside_the_limits_is_shown_and_listed(
    bus: Bus, http: aiohttp.ClientSession, job: dict[str, Any], birth: dict[str, Any], field: str, shown: str
) -> None:
    job_id = await born(bus, job, **birth)
    async with http.get(f"/v1/jobs/{job_id}") as answer:
        assert (answer.status, (await answer.json()).get(field)) == (200, shown)
    assert (await listed(http))[job_id][field] == shown


async def test_a_birth_that_is_no_job_has_an_error_in_its_row_and_fails_no_other(
    bus: Bus, http: aiohttp.ClientSession
) -> None:
    whole = await accepted(http, tone(params={"seconds": 0.1}))
    await until_state(http, whole, "done")
    for body in (b"", b"garbage\xff", b'{"job":{}}'):
        await bus.js.publish(bus.subjects.job_key("public", "broken").birth, body)
        rows = await listed(http)
        assert rows["broken"]["error"]["code"] == "unreadable"
        assert rows[whole]["state"] == "done"


async def test_a_bad_job_is_no_reason_to_refuse_acesteps_figures_or_results(
    bus: Bus, http: aiohttp.ClientSession
) -> None:
    async with http.get("/v1/stats") as answer:
        before = (await answer.json())["data"]["jobs"]["total"]
    acestep = {"client": {"api": "acestep"}}
    await bus.js.publish(bus.subjects.job_key("public", "broken").birth, b"garbage")
    tasks = [new_task(1, "wav") for _ in range(4)]
    for task, seconds in zip(tasks, ("x", 10**400, None), strict=False):
        await born(bus, {**acestep, "id": task.jobs[0], "params": {"seconds": seconds}}, accepted_at=1e300)
    key = bus.subjects.job_key("public", tasks[3].jobs[0])
    await bus.js.publish(key.birth, b"garbage")
    async with http.get("/v1/stats") as answer:
        assert (answer.status, (await answer.json())["data"]["jobs"]["total"]) == (200, before + 3)
    listed = [task.id for task in tasks]
    async with http.post("/query_result", json={"task_id_list": listed}) as answer:
        found = (await answer.json())["data"]
        assert [(each["task_id"], each["status"]) for each in found] == list(zip(listed, (0, 0, 0, 2), strict=True))


async def test_an_end_that_cannot_be_read_has_an_error_in_its_row(bus: Bus, http: aiohttp.ClientSession) -> None:
    job_id = await born(bus, {})
    headers = {"Antiphon-Kind": "done", "Antiphon-Next": "1 5 0 0"}
    await bus.js.publish(bus.subjects.job_key("public", job_id).entries, b"garbage", headers)
    assert (await listed(http))[job_id]["error"]["code"] == "unreadable"
