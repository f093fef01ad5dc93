"""The queue of webhooks, over a real nats-server and its sudden death."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from bus.webhook import HookProgress
from gateway.webhooks.queue import PendingWebhook, WebhookQueue
from tests.support.bus import until
from tests.support.nats import fresh_root
from tests.support.restarts import Server, own_server
from tests.support.waiting import eventually


@pytest.fixture
async def outage() -> AsyncIterator[tuple[Server, Bus]]:
    """A server of its own, and a bus on it."""
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, own_server(Path(folder)) as server:
        settings = BusSettings(nats=server.url, root=fresh_root(), jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)
        async with open_bus(settings, "gateway") as bus:
            yield server, bus


async def num_left(bus: Bus) -> int:
    return int((await bus.js.info(bus.subjects.hooks_stream))["state"]["messages"])


async def pulled(queue: WebhookQueue, count: int) -> dict[str, PendingWebhook]:
    """So many webhooks, by job."""
    found: dict[str, PendingWebhook] = {}
    async with asyncio.timeout(30):
        while len(found) < count:
            found |= {webhook.key.job: webhook for webhook in await queue.pull(count)}
    return found


async def test_finished_webhooks_stay_finished_when_the_server_is_killed(outage: tuple[Server, Bus]) -> None:
    server, bus = outage
    queue = WebhookQueue(bus)
    for number in range(5):
        await queue.add(bus.subjects.job_key("public", f"j{number}"))
    for webhook in (await pulled(queue, 5)).values():
        await webhook.advance(HookProgress(since=webhook.progress.since, settled=("accepted",)))
    second = await pulled(queue, 5)
    assert {webhook.progress.settled for webhook in second.values()} == {("accepted",)}
    for number in range(4):
        second[f"j{number}"].finish()

    async def one_left() -> bool:
        return await num_left(bus) == 1

    await until(one_left)
    await asyncio.to_thread(server.restart)
    await eventually(lambda: bus.connection.state.generation == 1, 20)
    assert await num_left(bus) == 1


@pytest.mark.parametrize("is_finished", [False, True])
async def test_a_message_that_was_replaced_is_not_redelivered(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, is_finished: bool
) -> None:
    queue, publish = WebhookQueue(bus), bus.connection.publish
    await queue.add(bus.subjects.job_key("public", "j"))
    first = (await pulled(queue, 1))["j"]

    def without_acks(subject: str, *rest: Any, **named: Any) -> None:
        if not subject.startswith("$JS.ACK."):
            publish(subject, *rest, **named)

    with monkeypatch.context() as lossy:
        lossy.setattr(bus.connection, "publish", without_acks)
        await first.advance(msgspec.structs.replace(first.progress, settled=("accepted",)))
    second = (await pulled(queue, 1))["j"]
    assert second.progress.settled == ("accepted",)
    if is_finished:
        second.finish()
    first.defer(0)  # as after its ack_wait
    await queue.add(bus.subjects.job_key("public", "other"))
    assert set(await pulled(queue, 1)) == {"other"}
