"""Whatever is published straight on the job subject: it costs its own job at most, and its publisher gets the reason."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus import wire
from bus.errors import Invalid, Malformed
from bus.jobs.client import Bus, open_bus
from bus.jobs.dead_letters import DeadLetters
from bus.jobs.entry import Entry
from bus.jobs.validate import read_job
from bus.subjects import parse_job_of
from bus.transport.direct import Stored
from bus.transport.jetstream import MESSAGE_ID
from tests.support import fleets
from tests.support.bus import until
from tests.support.fleets import Stack
from tests.support.jobs import listen, tone_job
from tests.support.odd_jobs import draw_messages
from tests.support.programs import Program, host_pid
from tests.support.tone import tone_pcm

#: JetStream calls under way at a time.
_AT_ONCE = 64
HUGE = 10**30
DEEP: Any = {}
for _ in range(32):
    DEEP = {"a": DEEP}

stack = fleets.stack("tone", 8, "--max-fails", "0", ack_wait_s=5.0)


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test", declare=False) as bus:
        yield bus


async def publish(bus: Bus, body: bytes, tenant: str = "public") -> int:
    """As a bus user does; returns the sequence of the PubAck."""
    return (await bus.js.publish(bus.subjects.job("tone", "v1", "standard", tenant), body)).seq


async def end_of(bus: Bus, job_id: str, within_s: float = 20.0) -> Entry:
    key, found = bus.subjects.job_key("public", job_id), []

    async def has_ended() -> bool:
        tail = await bus.logs.tail(key)
        found.append(tail)
        return tail is not None and tail.is_end

    await until(has_ended, within_s)
    return found[-1]  # type: ignore[return-value]  # it has ended


async def emptied(bus: Bus) -> bool:
    return (await bus.js.info(bus.subjects.jobs_stream))["state"]["messages"] == 0


async def dead_letters(bus: Bus) -> list[Stored]:
    found: list[Stored] = []
    pending = 1
    while pending:
        after = found[-1].seq + 1 if found else 1
        page, pending = await bus.js.direct.page(bus.subjects.dead_stream, bus.subjects.dead, after)
        found += page
    return found


def pids(worker: Program) -> tuple[int, int]:
    """Of the worker and its engine host; fails if the worker has ended."""
    assert worker.process.poll() is None, worker.log()
    return worker.pid, host_pid(worker)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"seed": HUGE}, "seed"),
        ({"params": {"seconds": HUGE}}, "params.seconds"),
        ({"params": {"x": [{"y": -HUGE}]}}, "params.x.0.y"),
        ({"params": {"x": DEEP}}, "params.x.a.a.a.a.a.a…"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
        ({"expires_at": "9999-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
        ({"linger_s": 1e300}, "linger_s"),
        ({"first_audio_deadline_s": 1e300}, "first_audio_deadline_s"),
        ({"input": "a\x00b"}, "input"),
        ({"input": "x" * 100_001}, "input"),
    ],
)
async def test_a_job_outside_the_limits_ends_as_invalid_under_its_own_id_and_is_one_dead_letter(
    stack: Stack, bus: Bus, fields: dict[str, Any], path: str
) -> None:
    before, job_id = pids(stack.worker), f"odd{secrets.token_hex(4)}"
    seq = await publish(bus, json.dumps({"input": "x", "id": job_id, **fields}).encode())
    end = await end_of(bus, job_id)
    failed = wire.decode(wire.Failed, end.payload)
    assert (end.kind, failed.code, failed.path) == ("failed", "invalid", path)
    assert failed.message.startswith(f"{path}: ")
    await until(lambda: emptied(bus))
    letters = [each for each in await dead_letters(bus) if parse_job_of(each.message.subject) == ("public", job_id)]
    assert [each.message.header(MESSAGE_ID) for each in letters] == [f"dead.{seq}"]
    assert (await listen(bus, tone_job(seconds=0.1))).pcm == tone_pcm(0.1)
    assert pids(stack.worker) == before


async def test_an_invalid_message_cannot_end_the_job_whose_id_it_names(stack: Stack, bus: Bus) -> None:
    job = tone_job(seconds=0.2)
    await listen(bus, job)
    seq = await publish(bus, json.dumps({"input": "x", "id": job.id, "seed": HUGE}).encode())
    assert (await end_of(bus, f"q{seq}")).kind == "failed"
    assert (await end_of(bus, job.id)).kind == "done"


async def test_a_dead_letter_that_would_be_refused_again_is_not_retried(bus: Bus) -> None:
    seq = await publish(bus, json.dumps({"input": "x", "params": {"seconds": HUGE}}).encode())
    await end_of(bus, f"q{seq}")
    letters = DeadLetters(bus)
    with pytest.raises(Invalid, match=r"params\.seconds"):
        await letters.retry(await letters.find(f"q{seq}"))
    assert (await letters.find(f"q{seq}")).job == f"q{seq}"


async def test_fields_of_a_newer_gateway_are_ignored(bus: Bus) -> None:
    future = {"mood": {"a": HUGE, "b": [1]}, "client": {"api": "jobs", "webhook": {"url": "http://h.test/", "x": 1}}}
    seq = await publish(bus, json.dumps({"input": "x", "params": {"seconds": 0.1}, **future}).encode())
    assert (await end_of(bus, f"q{seq}")).kind == "done"


async def test_a_job_that_comes_past_its_deadline_expires(bus: Bus) -> None:
    seq = await publish(bus, b'{"input":"x","expires_at":"2001-01-01T00:00:00Z"}')
    assert (await end_of(bus, f"q{seq}")).kind == "expired"


async def test_some_hundred_random_messages_each_end_in_the_log_or_among_the_dead_letters(
    stack: Stack, bus: Bus
) -> None:
    await check_messages(stack.worker, bus, 300, within_s=60)


@pytest.mark.slow
async def test_ten_thousand_random_messages_each_end_in_the_log_or_among_the_dead_letters(
    stack: Stack, bus: Bus
) -> None:
    await check_messages(stack.worker, bus, 10_000, within_s=600)


async def check_messages(worker: Program, bus: Bus, num: int, within_s: float) -> None:
    """Publish `num` random messages and wait until each has come to its end, with no process of the worker lost."""
    before = pids(worker)
    payloads = await asyncio.to_thread(draw_messages, num)  # for minutes: the connection is to live meanwhile
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(payload: bytes) -> tuple[int, bytes]:
        async with limit:
            return await publish(bus, payload), payload

    queued = await asyncio.gather(*(one(payload) for payload in payloads))
    await until(lambda: emptied(bus), within_s)
    assert pids(worker) == before
    assert [worker.events(name) for name in ("process.crashed", "host.ended", "job.crashed")] == [[], [], []]
    dead = [each.message.header(MESSAGE_ID) for each in await dead_letters(bus)]
    assert len(dead) == len(set(dead))
    settled = set(dead)
    lost = await asyncio.gather(*(_lost(bus, limit, settled, *job) for job in queued))
    assert [payload for payload in lost if payload is not None] == []


async def _lost(bus: Bus, limit: asyncio.Semaphore, dead: set[str | None], seq: int, payload: bytes) -> bytes | None:
    """The message, if it is neither a dead letter nor a job whose log has ended; else None."""
    if f"dead.{seq}" in dead:
        return None
    subject = bus.subjects.parse_job(bus.subjects.job("tone", "v1", "standard", "public"))
    try:
        job = read_job(subject, seq, payload, bus.clock.now())
    except (Malformed, Invalid):
        return payload
    async with limit:
        tail = await bus.logs.tail(bus.subjects.job_key("public", job.id))
    return None if tail is not None and tail.is_end else payload
