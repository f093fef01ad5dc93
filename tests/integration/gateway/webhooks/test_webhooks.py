"""Webhooks: delivered in order, signed, retried, and by another gateway if one dies."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bus import wire
from bus.jobs.client import open_bus
from bus.jobs.dead_letters import DeadLetters
from bus.settings import BusSettings
from bus.webhook import Webhook
from gateway.webhooks.queue import WebhookQueue
from tests.support import fleets
from tests.support.doors import accepted, gated, tone, until_state
from tests.support.fleets import Stack, small_bus, stack_of
from tests.support.jobs import tone_job
from tests.support.receiver import Receiver, receiving
from tests.support.web import ready

FLAGS = ("--webhook-private", "--webhook-retry-s", "0.05", "--webhook-max-tries", "4")


stack = fleets.stack(gateway_flags=FLAGS)
http = fleets.http()


@pytest.fixture
def settings(stack: Stack) -> BusSettings:
    return stack.settings


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def hooked(receiver: Receiver, *events: str, secret: str = "", **fields: Any) -> dict[str, Any]:
    hook: dict[str, Any] = {"url": f"{receiver.url}/hook"} | ({"secret": secret} if secret else {})
    if events:
        hook["events"] = events
    return tone(**{"params": {"seconds": 0.2}, **fields}, webhook=hook)


async def test_events_come_in_order_signed_and_with_the_job_at_that_moment(
    http: aiohttp.ClientSession, receiver: Receiver
) -> None:
    job = await accepted(http, hooked(receiver, secret="whsec_c2VjcmV0IGtleSBvZiBhIHRlc3Q="))
    await receiver.types(job, ["job.done"])
    received = receiver.of(job)
    assert [each.type for each in received] == ["job.accepted", "job.started", "job.done"]
    assert all(each.is_signed_with(b"secret key of a test") for each in received)
    assert not received[0].is_signed_with(b"another key")
    assert len({each.id for each in received}) == 3
    done = received[-1].payload["data"]
    assert (done["state"], done["seconds"], done["links"]["audio"]) == ("done", 0.2, f"/v1/jobs/{job}/audio")


async def test_only_the_requested_events_are_delivered(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    quiet = await accepted(http, hooked(receiver, "failed", "cancelled"))
    failing = hooked(receiver, "failed", params={"fault": {"kind": "raise", "at_block": 0}})
    failed = await accepted(http, failing)
    assert await receiver.types(failed, ["job.failed"]) == ["job.failed"]
    assert receiver.of(failed)[0].payload["data"]["error"]["code"] == "engine_failed"
    await until_state(http, quiet, "done")
    assert "webhook-signature" not in receiver.of(failed)[0].headers
    assert receiver.of(quiet) == []


async def test_a_cancelled_job_has_an_event_and_a_batch_has_webhooks_too(
    http: aiohttp.ClientSession, receiver: Receiver, tmp_path: Path
) -> None:
    body = hooked(receiver, "cancelled", params=gated(tmp_path / "open", 0, seconds=0.2))
    async with http.post("/v1/jobs:batch", data=json.dumps(body)) as answer:
        job = json.loads(await answer.text())["id"]
    async with http.delete(f"/v1/jobs/{job}") as answer:
        assert (await answer.json())["state"] == "cancelled"
    assert await receiver.types(job, ["job.cancelled"]) == ["job.cancelled"]


async def test_a_refused_event_is_sent_again_under_the_same_id_and_redirects_are_not_followed(
    http: aiohttp.ClientSession, receiver: Receiver
) -> None:
    receiver.refusals += [500, 302, 404]
    job = await accepted(http, hooked(receiver, "accepted", "done"))
    assert await receiver.types(job, ["job.done"]) == ["job.accepted", "job.done"]
    assert receiver.paths == ["/hook"] * 5


async def test_an_event_that_is_always_refused_is_dead_lettered_and_the_next_is_delivered(
    http: aiohttp.ClientSession, receiver: Receiver, settings: BusSettings, stack: Stack
) -> None:
    receiver.refusals += [503] * 4
    job = await accepted(http, hooked(receiver, "accepted", "done"))
    assert await receiver.types(job, ["job.done"]) == ["job.done"]
    dead_lettered = [event for event in stack.gateway.events("webhook.dead_lettered") if event["job"] == job]
    assert [(event["event_type"], event["tries"]) for event in dead_lettered] == [("accepted", 4)]
    async with open_bus(settings, "test") as bus:
        letter = await DeadLetters(bus).find(dead_lettered[0]["event_id"])
    assert job in letter.dead.reason
    assert "the response was 503" in letter.dead.reason
    assert json.loads(letter.dead.payload)["type"] == "job.accepted"


async def test_a_receiver_that_is_gone_gets_no_second_try(http: aiohttp.ClientSession, receiver: Receiver) -> None:
    receiver.refusals += [410]
    job = await accepted(http, hooked(receiver, "accepted", "done"))
    assert await receiver.types(job, ["job.done"]) == ["job.done"]
    assert len(receiver.paths) == 2


async def test_requesting_the_same_job_again_delivers_nothing_twice(
    http: aiohttp.ClientSession, receiver: Receiver, settings: BusSettings
) -> None:
    body = hooked(receiver, "done", id="twice")
    assert [await _put(http, body) for _ in range(3)] == [202, 200, 200]
    assert await receiver.types("twice", ["job.done"]) == ["job.done"]
    assert await _put(http, body) == 200
    assert await _put(http, {**body, "seed": 1}) == 409
    async with open_bus(settings, "test") as bus:
        subject = bus.subjects.hook("public", "twice")
        async with asyncio.timeout(30):
            while await bus.js.last(bus.subjects.hooks_stream, subject) is not None:
                await asyncio.sleep(0.02)
    # A second delivery would come before this one.
    after = await accepted(http, hooked(receiver, "done"))
    await receiver.types(after, ["job.done"])
    assert len(receiver.of("twice")) == 1


async def _put(http: aiohttp.ClientSession, body: dict[str, Any]) -> int:
    async with http.put(f"/v1/jobs/{body['id']}", json=body) as answer:
        return answer.status


@pytest.mark.slow
async def test_the_death_of_the_gateway_that_accepted_it_loses_no_event(
    http: aiohttp.ClientSession, receiver: Receiver, stack: Stack, tmp_path: Path
) -> None:
    doomed, url = stack.fleet.gateway(*FLAGS)
    async with aiohttp.ClientSession(url) as client:
        await ready(client, "")
        jobs = [
            await accepted(client, hooked(receiver, "done", params=gated(tmp_path / "open", 0, seconds=0.2 + n / 100)))
            for n in range(4)
        ]
        doomed.kill()
    (tmp_path / "open").touch()
    # The messages that the dead gateway held are redelivered after the queue's ack_wait.
    for job in jobs:
        await receiver.types(job, ["job.done"], within_s=40)
    assert {len({each.id for each in receiver.of(job)}) for job in jobs} == {1}


async def test_a_gateway_that_dies_between_queueing_a_job_and_its_birth_loses_no_event(
    http: aiohttp.ClientSession, receiver: Receiver, settings: BusSettings
) -> None:
    hook = Webhook(url=f"{receiver.url}/hook", events=("accepted", "done"))
    job = tone_job(seconds=0.1, lane="standard", run_on=True, client=wire.Client(api="jobs", webhook=hook))
    async with open_bus(settings, "test") as bus:
        name = bus.subjects.job_key(job.tenant, job.id)
        await WebhookQueue(bus).add(name)
        await bus.js.publish(bus.subjects.job(job.model, job.version, job.lane, job.tenant), wire.encode(job))
        assert await receiver.types(job.id, ["job.done"]) == ["job.accepted", "job.done"]


@pytest.mark.parametrize(
    ("hook", "path"),
    [
        ({"url": "ftp://example.org/x"}, "webhook.url"),
        ({"url": "https://user:secret@example.org"}, "webhook.url"),
        ({"url": "http://[::1"}, "webhook.url"),
        ({"url": "https://example.org", "events": []}, "webhook.events"),
        ({"url": "https://example.org", "events": ["done", "done"]}, "webhook.events"),
        ({"url": "https://example.org", "secret": "whsec_!"}, "webhook.secret"),
        ({"url": "https://example.org", "token": "x"}, "webhook.token"),
        ({"events": ["done"]}, "webhook.url"),
    ],
)
async def test_a_webhook_that_can_never_be_delivered_is_refused_with_the_job(
    http: aiohttp.ClientSession, hook: dict[str, Any], path: str
) -> None:
    async with http.post("/v1/jobs", json=tone(webhook=hook)) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"], problem["path"]) == (422, "invalid", path)
    assert "secret@" not in problem["detail"]


@pytest.mark.slow
async def test_a_name_that_resolves_to_a_private_address_is_never_connected_to(
    receiver: Receiver, settings: BusSettings
) -> None:
    alone = small_bus(settings.nats)
    with stack_of(alone, "tone", 1, gateway_flags=("--webhook-max-tries", "1")) as own:
        async with fleets.asking(own.url) as http:
            port = receiver.url.rpartition(":")[2]
            for host in (
                "127.0.0.1",
                "[::1]",
                "192.0.0.192",
                "[64:ff9b:1::7f00:1]",
                "127.1",
                "2130706433",
                "0x7f000001",
            ):
                async with http.post("/v1/jobs", json=tone(webhook={"url": f"http://{host}:{port}/hook"})) as answer:
                    assert answer.status == 422, host
            hook = {"url": f"http://localhost:{port}/hook", "events": ["accepted"]}
            job = await accepted(http, tone(webhook=hook))
            dead_lettered = await asyncio.to_thread(own.gateway.wait_for, "webhook.dead_lettered", 1)
            assert dead_lettered["job"] == job
    assert "127.0.0.1, which is no public address" in dead_lettered["error"]
    assert receiver.paths == []
