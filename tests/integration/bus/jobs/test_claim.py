"""From a delivery to the right to run it, or to its one other outcome."""

import asyncio
from typing import Any

import msgspec
import pytest

from bus import wire
from bus.errors import Invalid, Malformed
from bus.jobs.birth import digest
from bus.jobs.client import Bus
from bus.jobs.giving_up import Refusal
from bus.jobs.status import status
from bus.jobs.submit import submit
from bus.jobs.validate import read_job, usable_id
from bus.subjects import JobSubject
from bus.transport.pull import Delivery
from tests.support.bus import (
    claims,
    done,
    entries,
    key_of,
    kinds,
    num_jobs,
    pull,
    start,
    take_delivery,
    until,
    write,
    writer,
)
from tests.support.jobs import tone_job

ACK_WAIT_S = 30.0
SUBJECT = JobSubject("tone", "v1", "interactive", "public")


@pytest.fixture
def ack_wait_s() -> float:
    """A message that is not given back comes again long after the test has failed."""
    return ACK_WAIT_S


async def publish(bus: Bus, body: bytes, tenant: str = "public") -> int:
    """Publish as a bus user does; returns the sequence of the PubAck."""
    await bus.topology.declare_consumers("tone", "v1")
    subject = f"{bus.subjects.root}.job.tone.v1.interactive.{tenant}"
    return (await bus.js.publish(subject, body)).seq


async def dead(bus: Bus) -> list[wire.DeadJob]:
    page, _ = await bus.js.direct.page(bus.subjects.dead_stream, bus.subjects.dead, 1)
    return [wire.decode(wire.DeadJob, stored.message.data) for stored in page]


async def handle(bus: Bus, worker: str = "w1") -> Delivery:
    """Pull a message that is no job, and dead-letter it as a worker does."""
    delivery, by = await pull(bus), claims(bus, worker)
    with pytest.raises((Malformed, Invalid)) as caught:
        by.open(delivery)
    job_id = usable_id(delivery.payload, delivery.seq)
    await by.dead_letters.give_up_message(delivery, Refusal.of(caught.value), job_id)
    return delivery


async def emptied(bus: Bus) -> bool:
    return await num_jobs(bus) == 0


async def test_rule_04_a_direct_job_without_an_id_is_named_by_its_sequence(bus: Bus) -> None:
    seq = await publish(bus, b'{"input":"hello"}')
    _, claim = await take_delivery(bus)
    assert claim is not None
    assert claim.job == msgspec.structs.replace(
        tone_job(input="hello", id=f"q{seq}"), params={}, expires_at=claim.job.expires_at
    )
    assert claim.job.expires_at is not None
    assert claim.birth.queue_seq == seq


async def test_rule_03_the_worker_gives_birth_to_the_log_of_a_job_whose_gateway_died(bus: Bus) -> None:
    job = tone_job()
    seq = await publish(bus, wire.encode(job))
    assert await bus.logs.birth(key_of(bus, job)) is None
    _, claim = await take_delivery(bus)
    assert claim is not None
    found = await bus.logs.birth(key_of(bus, job))
    assert found is not None
    assert found[1] == claim.birth
    assert (found[1].queue_seq, found[1].digest) == (seq, digest(job))
    assert (await submit(bus, job)).is_new is False


@pytest.mark.parametrize("order", ["surplus first", "surplus later"])
async def test_rule_03_a_surplus_message_is_acknowledged_and_touches_nothing(bus: Bus, order: str) -> None:
    job = tone_job()
    if order == "surplus first":
        await publish(bus, wire.encode(job))
        await submit(bus, job)
    else:
        await submit(bus, job)
        await publish(bus, wire.encode(job))
    claimed = [(await take_delivery(bus, worker))[1] for worker in ("w1", "w2")]
    assert [claim is None for claim in claimed] == [order == "surplus first", order != "surplus first"]
    claim = next(claim for claim in claimed if claim)
    assert claim.lease.attempt == 1
    by = writer(bus, claim)
    await write(by, 2)
    await until(lambda: one_job(bus))
    await by.end(wire.End.DONE, done(by))


async def one_job(bus: Bus) -> bool:
    return await num_jobs(bus) == 1


async def test_a_lease_that_a_surplus_message_got_first_is_no_attempt(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The surplus holder has the lease when the true message arrives; the job must not pay for it."""
    job = tone_job()
    await publish(bus, wire.encode(job))
    await submit(bus, job)
    surplus = await pull(bus)
    first = claims(bus, "w1")
    original, took, go_on = bus.logs.take, asyncio.Event(), asyncio.Event()

    async def take(name: Any, lease: wire.Lease, expected_seq: int) -> int:
        if lease.worker == "w1" and lease.state == wire.LeaseState.HANDED_BACK:
            took.set()
            await go_on.wait()
        return await original(name, lease, expected_seq)

    monkeypatch.setattr(bus.logs, "take", take)
    settling = asyncio.ensure_future(first.claim(surplus, first.open(surplus)))
    await took.wait()
    _, claim = await take_delivery(bus, "w2", max_attempts=1)
    assert claim is not None
    assert claim.lease.attempt == 1
    go_on.set()
    assert await settling is None
    await until(lambda: one_job(bus))
    await write(writer(bus, claim), 1)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Job"),
        (b"\xff\x00garbage", "Job"),
        (b"[]", "Job"),
        (b'{"id":"x"}', "input"),
        (b'{"input":"x","tenant":"other"}', "tenant: the body says 'other', the subject 'public'"),
        (b'{"input":"x","lane":"batch"}', "lane"),
        (b'{"input":"x","model":"other"}', "model"),
        (b'{"input":"x","version":"v9"}', "version"),
        (b'{"input":"x","id":"a.b"}', "id"),
        (b'{"input":"x","id":"a b"}', "id"),
        (b'{"input":"x","expires_at":"2030-01-01T00:00:00"}', "expires_at"),
        (b'{"input":"x","params":' + b"[" * 5000, "Job"),
    ],
)
async def test_rule_11_and_20_a_message_that_is_no_job_or_contradicts_its_subject_is_dead_lettered(
    bus: Bus, body: bytes, says: str
) -> None:
    seq = await publish(bus, body)
    delivery = await handle(bus)
    found = await dead(bus)
    assert [(job.payload, job.subject) for job in found] == [(body, delivery.subject)]
    assert says in found[0].reason
    log = await entries(bus, bus.subjects.job_key("public", usable_id(body, seq)))
    assert kinds(log) == ["failed"]
    assert wire.decode(wire.Failed, log[0].payload).code == "invalid"
    await until(lambda: emptied(bus))


@pytest.mark.parametrize("tenant", ["bad!tenant", "\u00e9", "x" * 70])
async def test_a_job_of_a_tenant_that_cannot_be_named_goes_to_dead_all_the_same(bus: Bus, tenant: str) -> None:
    await publish(bus, b'{"input":"x"}', tenant)
    await handle(bus)
    assert [job.subject.rpartition(".")[2] for job in await dead(bus)] == [tenant]
    await until(lambda: emptied(bus))


async def test_dead_lettering_garbage_does_not_end_another_job_that_bears_the_name(bus: Bus) -> None:
    name = bus.subjects.job_key("public", "q1")
    birth = wire.Birth(job=wire.Job(id="q1", input=""), digest="", queue_seq=99, accepted_at=1.0)
    await bus.logs.create(name, birth)
    assert await publish(bus, b"garbage") == 1
    await handle(bus)
    assert len(await dead(bus)) == 1
    assert (await status(bus.logs, name)).state == "queued"


async def test_a_job_that_chose_the_name_of_another_message_is_refused_instead_of_taking_its_place(bus: Bus) -> None:
    await publish(bus, b'{"input":"x","id":"q2"}')
    await handle(bus)
    assert "q2" in (await dead(bus))[0].reason
    assert await publish(bus, b'{"input":"x"}') == 2
    _, claim = await take_delivery(bus)
    assert claim is not None
    assert claim.job.id == "q2"
    assert read_job(SUBJECT, 7, b'{"input":"x","id":"q7"}', 0.0).id == "q7"
    with pytest.raises(Invalid, match="q3"):
        await submit(bus, tone_job(id="q3"))


async def test_rule_11_a_hand_back_costs_no_attempt_and_an_interruption_does(bus: Bus) -> None:
    delivery, claim, by = await start(bus, tone_job())
    attempts, firsts = [claim.lease.attempt], [claim.is_first]
    for state in ("handed_back", "handed_back", "interrupted", "handed_back"):
        await by.release(wire.LeaseState(state), "test")
        delivery.give_back()
        delivery, later = await take_delivery(bus, max_attempts=9)
        assert later is not None
        attempts.append(later.lease.attempt)
        firsts.append(later.is_first)
        by = writer(bus, later)
    assert attempts == [1, 1, 1, 2, 2]
    assert firsts == [True, False, False, False, False], "a later attempt does not count how long it waited"


async def test_rule_11_after_max_attempts_the_job_fails_and_goes_to_dead(bus: Bus) -> None:
    job = tone_job()
    delivery, _, by = await start(bus, job)
    await write(by, 2)
    await by.release(wire.LeaseState.INTERRUPTED, "engine exited")
    delivery.give_back()
    delivery, later = await take_delivery(bus, max_attempts=2)
    assert later is not None
    delivery.give_back()  # it dies: the lease stays `running`
    delivery, none = await take_delivery(bus, "w3", max_attempts=2)
    assert none is None
    log = await entries(bus, key_of(bus, job))
    assert kinds(log) == ["block", "block", "failed"]
    failed = wire.decode(wire.Failed, log[-1].payload)
    assert (failed.code, failed.attempt) == ("interrupted", 2)
    assert "the limit is 2" in failed.message
    assert [(job.attempts, job.payload) for job in await dead(bus)] == [(2, delivery.payload)]
    await until(lambda: emptied(bus))


async def test_rule_11_a_job_delivered_ten_times_without_a_lease_is_given_up_under_its_own_name(bus: Bus) -> None:
    job = tone_job()
    await submit(bus, job)
    await bus.topology.declare_consumers("tone", "v1")
    for _ in range(9):
        (await pull(bus)).give_back()
    delivery, none = await take_delivery(bus)
    assert (delivery.num_delivered, none) == (10, None)
    assert (await status(bus.logs, key_of(bus, job))).state == "failed"
    assert len(await dead(bus)) == 1
    await until(lambda: emptied(bus))


async def test_rule_03_a_delivery_of_a_job_whose_log_has_ended_is_acknowledged(bus: Bus) -> None:
    delivery, _, by = await start(bus, tone_job())
    await by.end(wire.End.DONE, done(by))  # and its ack is lost
    delivery.give_back()
    assert (await take_delivery(bus, "w2"))[1] is None
    await until(lambda: emptied(bus))
    assert kinds(await entries(bus, by.key)) == ["done"]


async def test_two_deliveries_at_once_make_one_holder(bus: Bus) -> None:
    delivery, claim, _ = await start(bus, tone_job())
    by = [claims(bus, f"w{k}", max_attempts=99) for k in range(5)]
    again = [await by[k].claim(delivery, by[k].open(delivery)) for k in range(2)]
    racing = await asyncio.gather(*(each.claim(delivery, each.open(delivery)) for each in by))
    found = await bus.logs.lease(claim.key)
    assert found is not None
    held = [one for one in [claim, *again, *racing] if one is not None and one.lease_seq == found[0]]
    assert len(held) == 1
    for one in [claim, *again, *racing]:
        if one is not None and one is not held[0]:
            with pytest.raises(Exception, match="was replaced"):
                await write(writer(bus, one), 1)
    await write(writer(bus, held[0]), 1)


async def test_a_given_back_job_comes_again_at_once_and_not_after_ack_wait(bus: Bus) -> None:
    delivery, _, by = await start(bus, tone_job())
    await by.release(wire.LeaseState.HANDED_BACK, "draining")
    delivery.give_back()
    assert (await pull(bus, within_s=ACK_WAIT_S / 2)).seq == delivery.seq
