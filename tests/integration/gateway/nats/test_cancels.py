"""Cancelling over NATS."""

import asyncio
import json

import pytest

from bus.errors import NoResponders
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from gateway.nats.cancels import Cancels
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job
from tests.support.log_writer import write_log


async def test_a_cancel_is_answered_with_the_state_that_the_job_ended_in(bus_settings: BusSettings) -> None:
    async with (
        gateway_here(bus_settings) as (gateway, _),
        open_bus(bus_settings, "test") as client,  # a gateway sends no answer to the inbox of a gateway
        asyncio.TaskGroup() as tasks,
    ):
        bus = gateway.bus
        service = tasks.create_task(Cancels(bus, gateway.authenticator, tasks).run())
        await asyncio.sleep(0)
        job, finished = tone_job(), tone_job()
        for each in (job, finished):
            await gateway.jobs.accept(each)
        await write_log(bus, finished, 1)
        for each, state in ((job, "cancelled"), (job, "cancelled"), (finished, "done")):
            answer = await client.connection.request(bus.subjects.cancel("public", each.id))
            assert json.loads(answer.data) == {"id": each.id, "state": state}
        answer = await client.connection.request(bus.subjects.cancel("public", "unknown"))
        assert answer.header("Nats-Service-Error-Code") == "400"
        assert "unknown" in (answer.header("Nats-Service-Error") or "")
        assert json.loads(answer.data)["code"] == "not_found"
        service.cancel()


async def test_cancels_need_a_gateway(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, _):
        with pytest.raises(NoResponders):
            await gateway.bus.connection.request(gateway.bus.subjects.cancel("public", "j"))
