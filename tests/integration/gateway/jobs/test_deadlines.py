"""Jobs that expire: by the timer of the gateway that accepted them, and by a request about them."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from bus.jobs.validate import check_deadline
from bus.settings import BusSettings
from bus.transport.clock import parse_time
from gateway.compose import Services
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job
from tests.support.log_writer import until_ended, until_queued


async def test_an_accepted_job_that_no_worker_takes_ends_at_its_deadline(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, _):
        job = tone_job(expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
        await gateway.jobs.accept(job)
        assert await until_ended(gateway.bus, job) == "expired"
        await until_queued(gateway.bus, 0)


async def test_any_request_ends_a_job_that_is_past_its_deadline(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        due = datetime.now(UTC) + timedelta(seconds=0.2)
        job = tone_job(expires_at=due)
        await gateway.jobs.accept(job)
        gateway.deadlines.close()
        await asyncio.sleep(due.timestamp() - gateway.bus.clock.now() + 0.01)
        async with http.get(f"/v1/jobs/{job.id}") as answer:
            shown = await answer.json()
        assert (shown["state"], shown["error"]["code"]) == ("expired", "expired")
        async with http.get(f"/v1/jobs/{job.id}/audio") as answer:
            assert (answer.status, (await answer.json())["code"]) == (504, "expired")


async def set_server_clock(gateway: Services, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """The gateway reads the server's clock, which is set by `jump_s` from now on."""
    original = gateway.bus.js.info

    async def info(stream: str) -> dict[str, Any]:
        found = await original(stream)
        return {**found, "ts": datetime.fromtimestamp(parse_time(found["ts"]) + jump_s, UTC).isoformat()}

    monkeypatch.setattr(gateway.bus.js, "info", info)
    await gateway.bus.clock.sync(gateway.bus.js, gateway.bus.subjects.jobs_stream)
    assert abs(gateway.bus.clock.server_now() - time.time() - jump_s) < 60


async def shown(http: aiohttp.ClientSession, job_id: str) -> dict[str, Any]:
    async with http.get(f"/v1/jobs/{job_id}") as answer:
        return dict(await answer.json())


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_setting_the_servers_clock_expires_no_job_and_refuses_none(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        before, due = tone_job(), datetime.now(UTC) + timedelta(hours=11)
        await gateway.jobs.accept(before)
        await set_server_clock(gateway, monkeypatch, jump_s)
        assert (await shown(http, before.id))["state"] == "queued"
        after = tone_job(expires_at=due)
        check_deadline(after.expires_at, gateway.bus.clock.now())  # as on acceptance, and in the worker
        await gateway.jobs.accept(after)
        assert (await shown(http, after.id))["state"] == "queued"
