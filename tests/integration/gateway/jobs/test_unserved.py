"""Requests that wait for their audio when no worker serves their model; durable jobs wait for one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from bus.fleet.offers import Unserved
from bus.settings import BusSettings
from gateway.compose import Services
from tests.support.doors import SPEECH, gateway_here, state_of, until_state, wav
from tests.support.programs import Fleet
from tests.support.waiting import eventually


@asynccontextmanager
async def deserted(
    settings: BusSettings, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Services, aiohttp.ClientSession]]:
    """A gateway whose only worker has died, with a grace that passes when the test says so."""
    async with gateway_here(settings, no_worker_s=30.0) as (gateway, http):
        worker = fleet.worker("w1", "tone", 8)
        await eventually(lambda: gateway.fleet.card("tone"))
        monkeypatch.setattr(gateway.fleet.unserved, "tick", lambda seconds: None)
        await asyncio.to_thread(worker.kill)
        await eventually(lambda: not gateway.fleet.workers)
        gateway.fleet.unserved.clear()
        yield gateway, http


async def queued_id(http: aiohttp.ClientSession) -> str:
    """The id of the newest job, once there is one."""
    async with asyncio.timeout(20):
        while True:
            async with http.get("/v1/jobs?limit=1") as answer:
                if found := (await answer.json())["jobs"]:
                    return str(found[0]["id"])
            await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("run_on", "after"), [(False, "cancelled"), (True, "queued")])
async def test_a_request_that_waits_is_refused_and_its_job_ends_unless_it_runs_on(
    bus_settings: BusSettings, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, after: str, *, run_on: bool
) -> None:
    async with deserted(bus_settings, fleet, monkeypatch) as (gateway, http):
        waiting = asyncio.create_task(http.post(SPEECH, json=wav(run_on=run_on)))
        job = await queued_id(http)
        Unserved.tick(gateway.fleet.unserved, 31)
        async with asyncio.timeout(20), await waiting as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"], answer.headers["Retry-After"]) == (503, "no_worker", "2")
        assert "no worker has served model 'tone' for 31 s" in error["message"]
        assert answer.headers["Antiphon-Job"] == job
        await until_state(http, job, after)


async def test_while_no_worker_serves_a_model_requests_are_refused_and_jobs_wait_for_one(
    bus_settings: BusSettings, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deserted(bus_settings, fleet, monkeypatch) as (gateway, http):
        Unserved.tick(gateway.fleet.unserved, 31)
        for lane, path in (("batch", "b"), ("interactive", "i")):
            async with http.put(f"/v1/jobs/{path}", json={"model": "tone", "input": "x", "lane": lane}) as answer:
                assert answer.status == 202
        async with http.post(SPEECH, json=wav(seed=2)) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "no_worker")
            refused = answer.headers["Antiphon-Job"]
        async with http.get(f"/v1/jobs/{refused}") as answer:
            assert answer.status == 404, "it was never accepted, so there is nothing to cancel"
        assert {await state_of(http, "b"), await state_of(http, "i")} == {"queued"}
        await asyncio.to_thread(fleet.worker, "w2", "tone", 8)
        for job in ("b", "i"):
            await until_state(http, job, "done")
        async with http.post(SPEECH, json=wav(seed=2)) as answer:
            assert answer.status == 200
