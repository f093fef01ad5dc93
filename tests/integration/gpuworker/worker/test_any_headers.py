"""Messages with any headers on the subjects that our processes read: each job is done, and no process ends."""

import asyncio
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bus import wire
from bus.jobs.client import Bus, open_bus
from tests.support import fleets
from tests.support.doors import tone, until_state
from tests.support.fleets import Stack
from tests.support.jobs import tone_job
from tests.support.programs import host_pid
from tests.support.raw_nats import publish_raw

stack = fleets.stack("tone", 8, ack_wait_s=5.0)
http = fleets.http()

#: Forged and broken ones: a sequence, a subject or a status of the publisher's choice; no line end; no text at all.
HEADS = (
    b"NATS/1.0\r\nNats-Sequence: 1\r\nNats-Num-Pending: 9\r\n\r\n",
    b"NATS/1.0\r\nNats-Subject: a.b\r\nNats-Time-Stamp: never\r\n\r\n",
    b"NATS/1.0\r\nNats-Sequence: x\r\nNats-Last-Sequence: -1\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
    b"garbage! 409 Consumer Deleted\r\n\r\n",
    b"NATS/1.0\r\nAntiphon-Next: 1",
    b"NATS/1.0\r\nAntiphon-Kind: done\r\nAntiphon-Next: \xff\r\nAntiphon-Block: x\r\nAntiphon-Started: {\r\n\r\n",
    b"\r\n\r\n",
    b"\xff\x00",
)


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test", declare=False) as bus:
        yield bus


def heads(count: int) -> list[bytes]:
    """The ones above, and as many random ones as are left."""
    rng = random.Random(42)
    return [*HEADS, *(rng.randbytes(rng.randrange(1, 80)) for _ in range(count - len(HEADS)))]


async def test_a_job_with_any_headers_is_done(stack: Stack, http: aiohttp.ClientSession, bus: Bus) -> None:
    before = stack.worker.pid, stack.gateway.pid, host_pid(stack.worker)
    jobs = {tone_job(seconds=0.05).id: head for head in heads(40)}
    for job_id, head in jobs.items():
        job = tone_job(id=job_id, seconds=0.05)
        subject = bus.subjects.job(job.model, job.version or "v1", job.lane, job.tenant)
        await publish_raw(stack.settings.nats, subject, head, wire.encode(job))
    for job_id in jobs:
        await until_state(http, job_id, "done")
    assert (stack.worker.pid, stack.gateway.pid, host_pid(stack.worker)) == before


async def test_a_reader_of_the_queue_believes_the_server_and_not_the_message(stack: Stack, bus: Bus) -> None:
    subject = bus.subjects.job("nothing", "v1", "batch", "public")
    for head in HEADS:
        await publish_raw(stack.settings.nats, subject, head, b"{}")
    page, num_pending = await bus.js.direct.page(bus.subjects.jobs_stream, subject, 1)
    assert [stored.message.subject for stored in page] == [subject] * len(HEADS)
    seqs = [stored.seq for stored in page]
    assert seqs == sorted(set(seqs))
    assert num_pending == 0
    assert seqs[-1] == (await bus.js.info(bus.subjects.jobs_stream))["state"]["last_seq"]


async def test_control_messages_and_entries_with_any_headers_end_no_process(
    stack: Stack, http: aiohttp.ClientSession, bus: Bus
) -> None:
    before = stack.worker.pid, stack.gateway.pid, host_pid(stack.worker)
    async with http.post("/v1/jobs", json=tone(params={"seconds": 3, "compute_ms": 100})) as answer:
        job = (await answer.json())["id"]
    key = bus.subjects.job_key("public", job)
    reading = asyncio.create_task(read(http, f"/v1/jobs/{job}/events"))
    subjects = (key.entries, key.live, f"{stack.settings.root}.worker.w1.stop", f"{stack.settings.root}.hb.w1")
    for head in heads(16):
        for subject in (*subjects, bus.subjects.submit):
            await publish_raw(stack.settings.nats, subject, head, b"{")
    await reading
    assert (stack.worker.pid, stack.gateway.pid, host_pid(stack.worker)) == before
    async with http.post("/v1/jobs", json=tone(input="after", params={"seconds": 0.1})) as answer:
        assert answer.status == 202
        await until_state(http, (await answer.json())["id"], "done")


async def read(http: aiohttp.ClientSession, path: str) -> bytes:
    """The body, however it ends."""
    async with asyncio.timeout(60), http.get(path) as answer:
        try:
            return await answer.read()
        except aiohttp.ClientError:
            return b""
