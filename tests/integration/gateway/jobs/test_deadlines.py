"""Jobs that expire: by the timer of the gateway that accepted them, and by a request about them."""

import asyncio
from datetime import UTC, datetime, timedelta

from bus.settings import BusSettings
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
