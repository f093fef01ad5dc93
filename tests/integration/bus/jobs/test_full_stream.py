"""REPLIES without a byte of room: a job can be ended, and a lease that is written again stays its worker's (rule 15)."""

import asyncio
import json

import msgspec
import pytest

from bus import wire
from bus.errors import Fenced, Full, Gone
from bus.jobs.claim import JobLease
from bus.jobs.client import Bus
from bus.jobs.status import status
from bus.jobs.submit import submit
from bus.settings import BusSettings
from tests.support.bus import claims, done, entries, follow, key_of, kinds, num_jobs, start, write, writer
from tests.support.full_stream import empty, fill
from tests.support.jobs import tone_job


@pytest.fixture
def bus_settings(nats_url: str, root: str) -> BusSettings:
    return BusSettings(nats=nats_url, root=root, jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (wire.End.CANCELLED, None),
        (wire.End.EXPIRED, None),
        (wire.End.FAILED, wire.Failed(code="interrupted", message="too often")),
    ],
)
async def test_a_job_ends_in_a_stream_without_room_at_the_cost_of_its_own_audio(
    bus: Bus, kind: wire.End, payload: object
) -> None:
    _, claim, by = await start(bus, tone_job())
    await write(by, 3, frames=1000)
    other = await fill(bus)
    filled = len(await entries(bus, other))
    with pytest.raises(Full):
        await write(by, 1)
    assert await bus.logs.end(claim.key, kind, "test", payload) == kind
    found = await status(bus.logs, claim.key)
    assert (found.state, found.position) == (str(kind), by.position)
    assert kinds(await entries(bus, claim.key)) == ["block", kind]
    assert len(await entries(bus, other)) == filled, "of another job nothing is lost"
    with pytest.raises(Gone):
        await follow(bus, claim.key)
    assert await num_jobs(bus) == 1, "the other one's"


async def test_a_job_without_audio_frees_nothing_and_is_refused_by_name(bus: Bus) -> None:
    job = tone_job()
    await submit(bus, job)
    await fill(bus)
    with pytest.raises(Full):
        await bus.logs.end(key_of(bus, job), wire.End.CANCELLED, "test")
    assert (await status(bus.logs, key_of(bus, job))).state == "queued"


async def test_a_worker_that_cannot_append_failed_ends_its_job_all_the_same_but_keeps_one_that_is_done(
    bus: Bus,
) -> None:
    for kind in (wire.End.DONE, wire.End.FAILED):
        delivery, claim, by = await start(bus, tone_job())
        lease = JobLease(bus, claims(bus), claim, by)
        await write(by, 3, frames=1000)
        other = await fill(bus)
        if kind == wire.End.DONE:
            with pytest.raises(Full):
                await lease.finish(kind, done(by))
            assert kinds(await entries(bus, claim.key)) == ["block"] * 3
            await empty(bus, other)
            assert await lease.finish(kind, done(by)) == "done"
        else:
            assert await lease.finish(kind, wire.Failed(code="engine_failed", message="no")) == "failed"
            assert (await status(bus.logs, claim.key)).state == "failed"
        await empty(bus, other)
        delivery.ack()


async def test_a_lease_that_is_written_again_moves_the_fence_with_its_worker(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    old = writer(bus, claim)
    await write(by, 1)
    lease = JobLease(bus, claims(bus), claim, by)
    for waiting_for in ("storage", ""):
        await lease.show_waiting(waiting_for)
        found = await status(bus.logs, claim.key)
        assert (found.state, found.lease) == ("running", msgspec.structs.replace(claim.lease, waiting_for=waiting_for))
        await lease.ensure_held()
        await write(by, 1)
        with pytest.raises(Fenced):
            await old.progress(wire.Progress(phase="x", done=0, total=None))
    await by.end(wire.End.DONE, done(by))
    assert kinds(await entries(bus, claim.key)) == ["block"] * 3 + ["done"]


async def test_a_lease_in_the_middle_of_being_written_again_does_not_look_lost(bus: Bus) -> None:
    """A `stop`, or a redelivery, may have the lease read at any time."""
    _, claim, by = await start(bus, tone_job())
    lease = JobLease(bus, claims(bus), claim, by)
    take, stored, go_on = bus.logs.take, asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> int:
        seq = await take(*args)  # type: ignore[arg-type]
        stored.set()
        await go_on.wait()
        return seq

    bus.logs.take = slow  # type: ignore[method-assign]
    showing = asyncio.create_task(lease.show_waiting("storage"))
    async with asyncio.timeout(30):
        await stored.wait()
        reading = asyncio.create_task(lease.read())
        await asyncio.sleep(0.05)
        assert not reading.done()
        go_on.set()
        await showing
        is_held, now = await reading
    assert is_held
    assert now is not None
    assert now.waiting_for == "storage"


async def test_a_cancel_wins_over_a_lease_that_is_written_again(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    lease = JobLease(bus, claims(bus), claim, by)
    await bus.logs.end(claim.key, wire.End.CANCELLED, "test")
    with pytest.raises(Fenced):
        await lease.show_waiting("storage")
    with pytest.raises(Fenced):
        await lease.ensure_held()


async def test_a_job_handed_back_while_it_waited_does_not_wait_any_more(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    lease = JobLease(bus, claims(bus), claim, by)
    await lease.show_waiting("storage")
    assert await lease.release(wire.LeaseState.HANDED_BACK, "drain") == "handed_back"
    found = await status(bus.logs, claim.key)
    assert found.lease is not None
    assert (found.state, found.lease.waiting_for) == ("interrupted", "")
    assert b"waiting_for" not in wire.encode(found.lease)
    assert json.loads(wire.encode(found.lease))["why"] == "handed_back"
