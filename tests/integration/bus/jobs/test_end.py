"""One operation ends a job, for everybody and exactly once (protocol rules 13 and 14)."""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from bus import wire
from bus.errors import Fenced, NotFound
from bus.jobs.client import Bus, open_bus
from bus.jobs.entry import Position
from bus.jobs.status import status
from bus.jobs.submit import submit
from bus.transport.clock import BusClock
from tests.support.bus import done, entries, key_of, kinds, num_jobs, start, take_delivery, write
from tests.support.jobs import tone_job
from tests.support.waiting import eventually


async def test_rule_13_ending_fences_the_worker_removes_the_message_and_sends_the_word(bus: Bus) -> None:
    words: list[wire.Stop] = []
    bus.connection.subscribe(
        bus.subjects.stop("w1"), lambda message: words.append(wire.decode(wire.Stop, message.data))
    )
    job = tone_job()
    _, claim, by = await start(bus, job)
    await write(by, 2)
    assert await bus.logs.end(claim.key, wire.End.CANCELLED, "because") == "cancelled"
    with pytest.raises(Fenced):
        await write(by, 1)
    log = await entries(bus, claim.key)
    assert kinds(log) == ["block", "block", "cancelled"]
    assert wire.decode(wire.Ended, log[-1].payload).why == "because"
    assert log[-1].position == by.position
    assert await num_jobs(bus) == 0
    await eventually(lambda: words)
    assert words == [wire.Stop(tenant=job.tenant, job=job.id)]


async def test_rule_13_a_queued_job_is_ended_before_anybody_ran_it(bus: Bus) -> None:
    job = tone_job()
    accepted = await submit(bus, job)
    assert await bus.logs.end(key_of(bus, job), wire.End.CANCELLED, "") == "cancelled"
    assert await num_jobs(bus) == 0
    found = await status(bus.logs, key_of(bus, job))
    assert (found.state, found.position, found.birth) == ("cancelled", Position(), accepted.birth)


async def test_rule_13_cancel_is_idempotent_and_answers_done_if_done_came_first(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await write(by, 1)
    await by.end(wire.End.DONE, done(by))
    for _ in range(3):
        assert await bus.logs.end(claim.key, wire.End.CANCELLED, "late") == "done"
    assert kinds(await entries(bus, claim.key)) == ["block", "done"]


async def test_rule_13_of_many_processes_that_end_a_running_job_one_does(bus: Bus) -> None:
    for trial in range(10):
        _, claim, by = await start(bus, tone_job())

        async def run(by: Any = by, blocks: int = trial) -> str:
            try:
                await write(by, blocks)
                await by.end(wire.End.DONE, done(by))
            except Fenced:
                return "fenced"
            return "done"

        ends = [bus.logs.end(claim.key, kind, kind) for kind in (wire.End.CANCELLED, wire.End.EXPIRED) * 2]
        outcome, *answers = await asyncio.gather(run(), *ends)
        log = await entries(bus, claim.key)
        terminal = [entry.kind for entry in log if entry.is_end]
        assert len(terminal) == 1
        assert log[-1].is_end
        assert set(answers) == set(terminal)
        assert (outcome == "done") == (terminal == ["done"])


async def announce(bus: Bus, claim: Any, kind: wire.End, payload: object) -> None:
    """Leave the lease as a gateway does that dies between its two steps."""
    held = await bus.logs.lease(claim.key)
    assert held is not None
    lease = msgspec.structs.replace(
        held[1], state=wire.LeaseState(kind), detail="why", body=msgspec.to_builtins(payload)
    )
    await bus.logs.take(claim.key, lease, held[0])


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (wire.End.FAILED, wire.Failed(code="out_of_memory", message="no room", worker="w1", attempt=1)),
        (wire.End.EXPIRED, wire.Ended(why="too late")),
    ],
)
@pytest.mark.parametrize("finisher", ["end", "status", "worker"])
async def test_rule_13_a_process_that_finds_an_announced_ending_finishes_that_one(
    bus: Bus, kind: wire.End, payload: wire.Failed | wire.Ended, finisher: str
) -> None:
    delivery, claim, by = await start(bus, tone_job())
    await write(by, 1)
    await announce(bus, claim, kind, payload)
    if finisher == "end":
        assert await bus.logs.end(claim.key, wire.End.CANCELLED, "another reason") == kind
    elif finisher == "status":
        assert (await status(bus.logs, claim.key)).state == str(kind)
    else:
        delivery.give_back()
        assert (await take_delivery(bus, "w2"))[1] is None
    log = await entries(bus, claim.key)
    assert kinds(log) == ["block", kind]
    assert wire.decode(type(payload), log[-1].payload) == payload
    assert await num_jobs(bus) == 0


async def test_rule_13_the_finisher_of_an_announced_ending_sends_stop_to_the_replaced_worker(bus: Bus) -> None:
    words: list[bytes] = []
    bus.connection.subscribe(bus.subjects.stop("w1"), lambda message: words.append(message.data))
    _, claim, _ = await start(bus, tone_job())
    await announce(bus, claim, wire.End.CANCELLED, wire.Ended(why=""))
    await bus.logs.end(claim.key, wire.End.CANCELLED, "")
    await eventually(lambda: words)


async def test_a_finisher_that_froze_before_its_append_adds_no_second_end(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long: the server may have forgotten every message id by then."""
    _, claim, by = await start(bus, tone_job())
    await write(by, 1)
    original, frozen, thawed = bus.js.publish, asyncio.Event(), asyncio.Event()

    async def publish(subject: str, data: bytes, headers: Any = None, *args: Any) -> Any:
        if subject == claim.key.entries and not frozen.is_set():
            frozen.set()
            await thawed.wait()
        headers = {key: value for key, value in (headers or {}).items() if key != "Nats-Msg-Id"}  # forgotten
        return await original(subject, data, headers, *args)

    monkeypatch.setattr(bus.js, "publish", publish)
    first = asyncio.ensure_future(bus.logs.end(claim.key, wire.End.CANCELLED, "frozen"))
    await frozen.wait()
    assert await bus.logs.end(claim.key, wire.End.EXPIRED, "quick") == "cancelled"
    thawed.set()
    assert await first == "cancelled"
    assert kinds(await entries(bus, claim.key)) == ["block", "cancelled"]


async def test_nothing_is_ended_that_never_was(bus: Bus) -> None:
    with pytest.raises(NotFound):
        await bus.logs.end(bus.subjects.job_key("public", "unknown"), wire.End.CANCELLED, "")


async def test_rule_14_now_is_the_clock_of_the_bus_whatever_the_host_believes(bus: Bus) -> None:
    real = time.time
    clock, began = BusClock(wall=lambda: real() + 3600), real()
    await clock.sync(bus.js, bus.subjects.jobs_stream)
    now, skew_s, off_s = clock.now(), clock.skew_s, real() - began + 0.1
    assert now == pytest.approx(real(), abs=off_s)
    assert skew_s == pytest.approx(3600, abs=off_s)


async def test_rule_14_two_processes_agree_about_now(bus: Bus) -> None:
    async with open_bus(bus.settings, "test") as other:
        began = time.monotonic()
        for each in (bus, other):  # each is wrong by half of what its look took, at most
            await each.clock.sync(each.js, each.subjects.jobs_stream)
        apart_s = other.clock.now() - bus.clock.now()
        assert abs(apart_s) < time.monotonic() - began + 0.01
