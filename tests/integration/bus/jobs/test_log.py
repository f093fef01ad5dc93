"""A log is born once, written by the holder of its lease, and ended once."""

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bus import wire
from bus.errors import ApiError, Conflict, Fenced, NotFound, Unreachable
from bus.jobs.client import Bus
from bus.jobs.entry import NEXT, Position
from bus.jobs.status import status
from bus.transport.jetstream import EXPECT_LAST, PubAck
from tests.support.bus import done, entries, key_of, kinds, num_jobs, pull, start, take_delivery, until, write, writer
from tests.support.jobs import tone_job


def losing_answers(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, which: Callable[[str], bool], times: int = 1
) -> list[str]:
    """Have the server act on requests whose subject `which` says, and lose its answers. Returns the subjects."""
    original, lost = bus.connection.request, list[str]()

    async def request(subject: str, *args: Any, **kwargs: Any) -> Any:
        answer = await original(subject, *args, **kwargs)
        if which(subject) and len(lost) < times:
            lost.append(subject)
            raise Unreachable("the answer was lost")
        return answer

    monkeypatch.setattr(bus.connection, "request", request)
    return lost


async def test_rule_03_a_log_is_born_once_and_the_loser_of_a_race_reads_the_birth(bus: Bus) -> None:
    name = bus.subjects.job_key("public", "j")
    births = [
        wire.Birth(job=wire.Job(input="x", id="j"), digest="d", queue_seq=k, accepted_at=1.0) for k in range(1, 11)
    ]
    results = await asyncio.gather(*(bus.logs.create(name, birth) for birth in births))
    assert len({(seq, birth.queue_seq) for seq, birth in results}) == 1
    assert await bus.logs.birth(name) == results[0]


async def test_rule_01_equal_ids_of_two_tenants_are_two_jobs(bus: Bus) -> None:
    _, _, mine = await start(bus, tone_job(id="same", tenant="a"))
    _, _, theirs = await start(bus, tone_job(id="same", tenant="b"))
    await asyncio.gather(write(mine, 3), write(theirs, 5))
    assert len(await entries(bus, mine.key)) == 3
    assert len(await entries(bus, theirs.key)) == 5


async def test_rule_06_the_lease_of_a_first_delivery_proves_an_empty_tail(bus: Bus) -> None:
    job = tone_job()
    delivery, claim, _ = await start(bus, job)
    assert (delivery.num_delivered, claim.position, claim.lease.attempt) == (1, Position(), 1)
    with pytest.raises(Fenced):
        await bus.logs.take(claim.key, claim.lease, 0)


async def test_rule_06_a_later_delivery_takes_the_lease_and_then_reads_the_tail(bus: Bus) -> None:
    delivery, _, by = await start(bus, tone_job())
    await write(by, 4)
    delivery.give_back()
    again, later = await take_delivery(bus, "w2")
    assert later is not None
    assert again.num_delivered == 2
    assert later.position == by.position
    assert (later.lease.worker, later.lease.attempt) == ("w2", 2)
    with pytest.raises(Fenced):
        await by.block(b"\0\0", 1)


async def test_rule_07_a_lease_holds_worker_boot_ack_subject_attempt_and_state(bus: Bus) -> None:
    delivery, claim, _ = await start(bus, tone_job(), worker="w9")
    found = await bus.logs.lease(claim.key)
    assert found is not None
    lease = found[1]
    assert (lease.worker, lease.boot, lease.ack, lease.attempt, lease.state) == (
        "w9", "b1", delivery.ack_subject, 1, "running",
    )  # fmt: skip


async def test_rule_07_a_lost_acknowledgement_of_an_append_stores_nothing_twice(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, claim, by = await start(bus, tone_job())
    lost = losing_answers(bus, monkeypatch, lambda subject: subject == claim.key.entries, times=3)
    await write(by, 3)
    await by.end(wire.End.DONE, done(by))
    assert len(lost) == 3
    assert kinds(await entries(bus, claim.key)) == ["block"] * 3 + ["done"]


async def test_an_append_left_unanswered_closes_the_writer(bus: Bus) -> None:
    """The next one would bear its number, and vanish as a duplicate with a good acknowledgement."""
    _, _, by = await start(bus, tone_job())
    task = asyncio.ensure_future(by.block(b"\0\0", 1))
    await asyncio.sleep(0)  # it is written in this turn of the loop
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(Unreachable, match="unanswered"):
        await by.end(wire.End.DONE, done(by))
    await by.release(wire.LeaseState.HANDED_BACK, "test")


async def test_a_refused_append_does_not_close_the_writer(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    _, claim, by = await start(bus, tone_job())
    original = bus.js.publish

    async def refuse(*args: Any, **kwargs: Any) -> PubAck:
        raise ApiError(10077, "maximum bytes exceeded")

    monkeypatch.setattr(bus.js, "publish", refuse)
    with pytest.raises(ApiError):
        await write(by, 1)
    monkeypatch.setattr(bus.js, "publish", original)
    await write(by, 1)
    assert [entry.position for entry in await entries(bus, claim.key)] == [by.position]


async def test_a_lost_acknowledgement_of_a_take_leaves_the_lease_ours(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = bus.subjects.job_key("public", "j")
    lost = losing_answers(bus, monkeypatch, lambda subject: subject == name.lease)
    lease = wire.Lease(state=wire.LeaseState.RUNNING, worker="w1", boot="b1", attempt=1)
    taken = await bus.logs.take(name, lease, 0)
    assert lost == [name.lease]
    assert await bus.logs.lease(name) == (taken, lease)


async def test_an_equal_lease_of_another_process_is_not_taken_for_ours(bus: Bus) -> None:
    name = bus.subjects.job_key("public", "j")
    lease = wire.Lease(state=wire.LeaseState.RUNNING, worker="w1", boot="b1", attempt=1)
    await bus.logs.take(name, lease, 0)
    with pytest.raises(Fenced):
        await bus.logs.take(name, lease, 0)


async def test_rule_08_the_last_entry_alone_is_the_state_of_a_takeover(bus: Bus) -> None:
    delivery, claim, by = await start(bus, tone_job())
    await write(by, 2)
    await by.checkpoint(wire.Checkpoint(frame=20, data=b"halfway"))
    await write(by, 2)
    await by.progress(wire.Progress(phase="denoise", done=1.0))
    log = await entries(bus, claim.key)
    audio = b"".join(entry.payload for entry in log if entry.kind == "block")
    assert log[-1].position == Position(4, 40, zlib.crc32(audio), log[2].seq)
    assert [entry.message.header(NEXT) is not None for entry in log] == [True] * 6
    delivery.give_back()
    _, later = await take_delivery(bus, "w2")
    assert later is not None
    assert (later.position, later.checkpoint) == (log[-1].position, b"halfway")


async def test_rule_09_a_zombie_whose_lease_was_taken_adds_nothing_and_live_never_shows_its_entry(bus: Bus) -> None:
    delivery, claim, zombie = await start(bus, tone_job())
    live: list[bytes] = []
    bus.connection.subscribe(claim.key.live, lambda message: live.append(message.data))
    await write(zombie, 2)
    delivery.give_back()
    _, later = await take_delivery(bus, "w2")
    assert later is not None
    successor = writer(bus, later)
    for _ in range(3):
        with pytest.raises(Fenced):
            await zombie.block(b"zombie", 3)
        with pytest.raises(Fenced):
            await zombie.end(wire.End.DONE, done(zombie))
        with pytest.raises(Fenced):
            await zombie.release(wire.LeaseState.HANDED_BACK, "")
        await write(successor, 1)
    await successor.end(wire.End.DONE, done(successor))
    await bus.connection.flush()
    log = await entries(bus, claim.key)
    assert live == [entry.payload for entry in log]
    assert b"zombie" not in live
    assert [entry.block for entry in log[:-1]] == list(range(5))


async def test_rule_10_a_redelivery_to_the_holder_takes_nothing_from_it_and_its_ack_subject_serves(bus: Bus) -> None:
    delivery, claim, by = await start(bus, tone_job())
    await write(by, 2)
    delivery.give_back()
    again = await pull(bus)
    lease = await bus.logs.lease(claim.key)
    assert lease is not None
    assert (again.seq, lease[0]) == (claim.birth.queue_seq, by.lease_seq)
    await write(by, 2)
    await by.end(wire.End.DONE, done(by))
    again.ack()
    await until(lambda: emptied(bus))
    assert kinds(await entries(bus, claim.key)) == ["block"] * 4 + ["done"]


async def emptied(bus: Bus) -> bool:
    return await num_jobs(bus) == 0


@pytest.mark.parametrize("state", [wire.LeaseState.HANDED_BACK, wire.LeaseState.INTERRUPTED])
async def test_rule_12_state_is_the_terminal_entry_else_the_lease(bus: Bus, state: wire.LeaseState) -> None:
    job = tone_job()
    name = key_of(bus, job)
    with pytest.raises(NotFound):
        await status(bus.logs, name)
    birth = wire.Birth(job=job, digest="d", queue_seq=1, accepted_at=1.0)
    await bus.logs.create(name, birth)
    assert (await status(bus.logs, name)).state == "queued"
    lease = wire.Lease(state=wire.LeaseState.RUNNING, worker="w1")
    seq = await bus.logs.take(name, lease, 0)
    assert (await status(bus.logs, name)).state == "running"
    seq = await bus.logs.take(name, msgspec.structs.replace(lease, state=state), seq)
    assert (await status(bus.logs, name)).state == "interrupted"
    assert await bus.logs.end(name, wire.End.EXPIRED, "test") == "expired"
    found = await status(bus.logs, name)
    assert (found.state, found.is_ended) == ("expired", True)


async def test_rule_01_and_04_another_body_under_a_used_id_is_refused(bus: Bus) -> None:
    from bus.jobs.submit import submit

    job = tone_job()
    await submit(bus, job)
    with pytest.raises(Conflict):
        await submit(bus, msgspec.structs.replace(job, input="other"))
    assert await num_jobs(bus) == 1


async def test_a_lease_expectation_without_a_lease_is_refused(bus: Bus) -> None:
    name = bus.subjects.job_key("public", "j")
    with pytest.raises(Fenced):
        await bus.logs.append(name, 5, 0, {}, b"x", 1.0)
    with pytest.raises(ApiError):
        await bus.js.publish(name.lease, b"{}", {EXPECT_LAST: "5"})
