"""Three gateways before one worker, shared by the tests of a module."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import ClientSession

from bus.access.keys import Keys
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support.fleets import small_bus
from tests.support.limits import Stack
from tests.support.programs import Fleet, Program, fleet_of
from tests.support.web import ready


@pytest.fixture(scope="module")
def running(nats_url: str) -> Iterator[tuple[Fleet, BusSettings, list[tuple[Program, str]]]]:
    settings = small_bus(nats_url)
    with fleet_of(settings) as fleet:
        worker = fleet.worker("w1", "tone", 8, wait=False)
        gateways = [fleet.gateway(wait=False)[0] for _ in range(3)]
        worker.wait_for("worker.ready")
        yield fleet, settings, [(each, str(each.wait_for("gateway.ready")["url"])) for each in gateways]


@pytest.fixture
async def stack(running: tuple[Fleet, BusSettings, list[tuple[Program, str]]]) -> AsyncIterator[Stack]:
    fleet, settings, gateways = running
    async with open_bus(settings, "test") as bus, ClientSession() as http:
        for program, url in gateways:
            await ready(http, url)
            await asyncio.to_thread(program.wait_for, "usage.gateway_joined", 2)
        yield Stack(fleet, settings, [each for each, _ in gateways], [url for _, url in gateways], Keys(bus))
