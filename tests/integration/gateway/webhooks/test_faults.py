"""Webhooks that cannot be delivered, and gateways that stop while they hold some: none is tried for ever, none lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import msgspec
import pytest

from bus import wire
from bus.jobs.birth import digest
from bus.jobs.client import Bus, open_bus
from bus.jobs.dead_letters import DeadLetters
from bus.jobs.entry import ACCEPTED, KIND
from bus.settings import BusSettings
from bus.webhook import HookProgress, Webhook
from gateway.webhooks.queue import WebhookQueue
from tests.support.doors import accepted, tone
from tests.support.jobs import tone_job
from tests.support.nats import fresh_root
from tests.support.programs import Fleet, Program, fleet_of
from tests.support.receiver import Receiver, receiving
from tests.support.waiting import eventually
from tests.support.web import ready

FLAGS = ("--webhook-private", "--webhook-retry-s", "0.05", "--webhook-max-tries", "4")


@pytest.fixture(scope="module")
def settings(nats_url: str) -> BusSettings:
    return BusSettings(nats=nats_url, root=fresh_root(), jobs_max_bytes=64 << 20, replies_max_bytes=256 << 20)


@pytest.fixture(scope="module")
def stack(settings: BusSettings) -> Iterator[tuple[Fleet, Program, str]]:
    """Fleet, the gateway and its URL."""
    with fleet_of(settings) as fleet:
        fleet.worker("w1", "tone", 4)
        gateway, url = fleet.gateway(*FLAGS)
        yield fleet, gateway, url


@pytest.fixture
async def http(stack: tuple[Fleet, Program, str]) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(stack[2]) as http:
        await ready(http, "")
        yield http


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.mark.parametrize("broken", ["no birth", "secret"])
async def test_a_job_whose_webhook_cannot_be_processed_is_dead_lettered_after_the_last_try(
    http: aiohttp.ClientSession, settings: BusSettings, stack: tuple[Fleet, Program, str], broken: str
) -> None:
    """No API lets such a job through; a bus user or a bug of ours may write one."""
    secret = "whsec_!" if broken == "secret" else ""
    hook = Webhook(url="http://127.0.0.1:9/", events=("accepted",), secret=secret)
    job = tone_job(client=wire.Client(api="jobs", webhook=hook))
    birth = wire.encode(wire.Birth(job=job, digest=digest(job), queue_seq=1, accepted_at=1.0))
    async with open_bus(settings, "test") as bus:
        name, subject = bus.subjects.job_key(job.tenant, job.id), bus.subjects.hook(job.tenant, job.id)
        await bus.js.publish(name.birth, b"[]" if broken == "no birth" else birth, {KIND: ACCEPTED})
        await WebhookQueue(bus).add(name)
        dead_lettered = await asyncio.to_thread(_wait_for, stack[1], "webhook.dead_lettered", job.id)
        assert dead_lettered["tries"] == 4
        assert [event["tries"] for event in _of(stack[1], "webhook.crashed", job.id)] == [1, 2, 3]
        letter = await DeadLetters(bus).find(dead_lettered["event_id"])
        assert job.id in letter.dead.reason
        assert wire.decode(HookProgress, letter.dead.payload).tries == 3
        await _until_settled(bus, subject)


async def test_a_due_time_beyond_the_longest_pause_is_ignored(
    http: aiohttp.ClientSession, receiver: Receiver, settings: BusSettings
) -> None:
    hook = Webhook(url=f"{receiver.url}/hook", events=("done",))
    job = tone_job(seconds=0.1, lane="standard", run_on=True, client=wire.Client(api="jobs", webhook=hook))
    async with open_bus(settings, "test") as bus:
        await WebhookQueue(bus).declare()
        progress = HookProgress(since=bus.clock.now(), due_at=1e300)
        await bus.js.publish(bus.subjects.hook(job.tenant, job.id), wire.encode(progress))
        await bus.js.publish(bus.subjects.job(job.model, job.version, job.lane, job.tenant), wire.encode(job))
        assert await receiver.types(job.id, ["job.done"]) == ["job.done"]


async def test_a_gateway_that_stops_returns_the_messages_that_it_holds(
    receiver: Receiver, settings: BusSettings
) -> None:
    """Otherwise they would be redelivered after the queue's ack_wait of 20 s."""
    alone = msgspec.structs.replace(settings, root=fresh_root())
    receiver.gate.clear()
    with fleet_of(alone) as fleet:
        fleet.worker("w1", "tone", 4)
        leaving, url = fleet.gateway(*FLAGS)
        async with aiohttp.ClientSession(url) as http:
            await ready(http, "")
            jobs = {await accepted(http, _hooked(receiver)) for _ in range(4)}
            await eventually(lambda: len(receiver.paths) == len(jobs), 20)
        assert await asyncio.to_thread(leaving.stop) == 0
        redelivered: set[str] = set()
        async with open_bus(alone, "test") as bus, asyncio.timeout(10):
            while redelivered != jobs:
                redelivered |= {webhook.key.job for webhook in await WebhookQueue(bus).pull(len(jobs))}


def _hooked(receiver: Receiver) -> dict[str, Any]:
    return tone(params={"seconds": 0.2}, webhook={"url": f"{receiver.url}/hook", "events": ["accepted"]})


async def _until_settled(bus: Bus, subject: str) -> None:
    async with asyncio.timeout(30):
        while await bus.js.last(bus.subjects.hooks_stream, subject) is not None:
            await asyncio.sleep(0.02)


def _of(program: Program, name: str, job: str) -> list[dict[str, Any]]:
    return [event for event in program.events(name) if event.get("job") == job]


def _wait_for(program: Program, name: str, job: str, within_s: float = 30.0) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while not (found := _of(program, name, job)):
        assert time.monotonic() < deadline, f"no {name!r} of {job} within {within_s} s:\n{program.log()}"
        time.sleep(0.02)
    return found[0]
