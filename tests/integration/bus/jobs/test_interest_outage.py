"""Interest over an outage of NATS: a leaving is settled behind it, and no gateway that comes back is taken for gone."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bus.errors import Unreachable
from bus.jobs import interest as interest_module
from bus.jobs.client import Bus, open_bus
from bus.jobs.interest import has_listeners
from bus.settings import BusSettings
from tests.support.bus import hold_reconnect
from tests.support.listeners import accept, gateway, listener, num_unsettled, state
from tests.support.nats import fresh_root
from tests.support.restarts import Server, own_server
from tests.support.waiting import eventually


@pytest.fixture
async def outage() -> AsyncIterator[tuple[Server, Bus]]:
    """A server of one's own, and a bus on it."""
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, own_server(Path(folder)) as server:
        settings = BusSettings(nats=server.url, root=fresh_root(), jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)
        async with open_bus(settings, "gateway") as bus:
            yield server, bus


async def test_rule_16_after_an_outage_a_gateway_that_comes_back_later_is_not_taken_for_gone(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    bus.connection.state.peer_grace_s = 1.0
    key, requested_at = await accept(bus), list[float]()
    async with open_bus(bus.settings, "gateway") as other, gateway(bus) as here, gateway(other) as there:
        first, second = await listener(here, key), await listener(there, key)
        let_in = hold_reconnect(other.connection)

        async def delayed(*args: Any) -> bool:
            requested_at.append(time.monotonic())
            await eventually(lambda: other.connection.state.generation == 1, 20)
            return await has_listeners(*args)

        monkeypatch.setattr(interest_module, "has_listeners", delayed)
        await asyncio.to_thread(server.restart)
        await eventually(lambda: bus.connection.state.generation == 1, 20)
        await first.leave()
        # A request sent now would have no responders.
        assert not await has_listeners(bus.connection, key)
        let_in.set()
        await eventually(lambda: other.connection.state.generation == 1, 20)
        second.saw_end = True  # it stays until `here` has its answer; its own leaving is not tested here
        await eventually(lambda: num_unsettled() == 0, 30)
        assert [at - bus.connection.state.reconnected_at >= 1.0 for at in requested_at] == [True]
        assert await state(bus, key) == "queued"
        await second.leave()


async def test_rule_16_a_leaving_during_an_outage_is_settled_after_it(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    bus.connection.state.peer_grace_s = 0.2
    flush = bus.connection.flush
    monkeypatch.setattr(bus.connection, "flush", lambda: flush(0.1))
    key = await accept(bus)
    async with asyncio.timeout(60), gateway(bus) as here:
        one = await listener(here, key)
        await asyncio.to_thread(server.kill)
        await eventually(lambda: not bus.connection.state.is_up, 20)
        await one.leave()
        with pytest.raises(Unreachable):  # by now a single request has timed out
            await bus.connection.flush()
        await asyncio.sleep(0)
        await asyncio.to_thread(server.start)
    assert await state(bus, key) == "cancelled"


async def test_rule_16_a_leaving_while_the_server_stands_still_is_settled_once_it_goes_on(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    key = await accept(bus)
    async with asyncio.timeout(30), gateway(bus) as here:
        one = await listener(here, key)
        with server.frozen(), monkeypatch.context() as impatient:
            flush = bus.connection.flush
            impatient.setattr(bus.connection, "flush", lambda: flush(0.1))
            await one.leave()
            with pytest.raises(Unreachable):  # by now a single request has timed out
                await bus.connection.flush()
            assert bus.connection.state.is_up, "the outage is not noticed yet"
    assert await state(bus, key) == "cancelled"
