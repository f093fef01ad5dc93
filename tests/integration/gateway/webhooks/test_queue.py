"""The queue of webhooks, over a real nats-server and its sudden death."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from bus.jobs.client import Bus, open_bus
from bus.jobs.delivery import Delivery
from bus.settings import BusSettings
from bus.webhook import HookProgress
from gateway.webhooks.queue import Hook, Hooks
from tests.support.bus import until
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


async def num_left(bus: Bus) -> int:
    return int((await bus.js.info(bus.subjects.hooks_stream))["state"]["messages"])


async def pulled(hooks: Hooks, count: int) -> dict[str, Hook]:
    """So many hooks, by job."""
    found: dict[str, Hook] = {}
    async with asyncio.timeout(30):
        while len(found) < count:
            found |= {hook.name.job: hook for hook in await hooks.pull(count)}
    return found


async def test_what_was_settled_stays_settled_when_the_server_is_killed(outage: tuple[Server, Bus]) -> None:
    server, bus = outage
    hooks = Hooks(bus)
    for number in range(5):
        await hooks.add(bus.subjects.job_key("public", f"j{number}"))
    for hook in (await pulled(hooks, 5)).values():
        await hook.step(HookProgress(since=hook.due.since, settled=("accepted",)))
    second = await pulled(hooks, 5)
    assert {hook.due.settled for hook in second.values()} == {("accepted",)}
    for number in range(4):
        second[f"j{number}"].settle()

    async def one_left() -> bool:
        return await num_left(bus) == 1

    await until(one_left)
    await asyncio.to_thread(server.restart)
    await eventually(lambda: bus.connection.state.generation == 1, 20)
    assert await num_left(bus) == 1


@pytest.mark.parametrize("is_settled", [False, True])
async def test_what_a_step_has_replaced_is_not_offered_again(bus: Bus, is_settled: bool) -> None:
    hooks, name = Hooks(bus), bus.subjects.job_key("public", "j")
    await hooks.add(name)
    hook = (await pulled(hooks, 1))["j"]
    given = hook._delivery
    # As if the acknowledgement were lost, and the server's patience over.
    hook._delivery = cast("Delivery", SimpleNamespace(ack=lambda: None, seq=given.seq, subject=given.subject))
    await hook.step(msgspec.structs.replace(hook.due, settled=("accepted",)))
    again = await pulled(hooks, 1)
    assert again["j"].due.settled == ("accepted",)
    if is_settled:
        again["j"].settle()
    given.give_back()
    await hooks.add(bus.subjects.job_key("public", "other"))
    assert set(await pulled(hooks, 1)) == {"other"}
