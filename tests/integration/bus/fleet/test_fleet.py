"""Workers come, die, freeze and are doubled; their jobs are taken from the dead, once, and from no other worker."""

import asyncio
import signal
import time
from typing import Any

import pytest

from bus import wire
from bus.fleet.messages import Heartbeat, Held
from bus.fleet.presence import DuplicateWorkerId, Presence
from bus.fleet.takeover import Takeovers
from bus.jobs.client import Bus, open_bus
from bus.jobs.status import status
from bus.jobs.submit import submit
from bus.subjects import JobKey
from bus.transport.parser import Message
from tests.support.bus import answers_pings, claims, done, key_of, num_jobs, pull, start
from tests.support.fleet import answers, gateway, listens, present, process, why
from tests.support.jobs import tone_job
from tests.support.stub_worker import CARD, beat
from tests.support.waiting import eventually, freeze


@pytest.fixture
def ack_wait_s() -> float:
    """A message that comes again was given back."""
    return 30.0


async def test_rule_19_a_killed_worker_is_found_and_its_jobs_go_on_elsewhere_long_before_ack_wait(bus: Bus) -> None:
    jobs = [tone_job(), tone_job()]
    await bus.topology.declare_consumers("tone", "v1")
    for job in jobs:
        await submit(bus, job)
    async with gateway(bus) as fleet, process(bus, "w1", num_jobs=2) as worker:
        await eventually(lambda: answers(fleet, "w1"))
        worker.kill()
        killed_at = time.monotonic()
        again = [await pull(bus), await pull(bus)]
        assert time.monotonic() - killed_at < bus.settings.ack_wait_s
        assert [delivery.num_delivered for delivery in again] == [2, 2]
        assert [await why(bus, key_of(bus, job)) for job in jobs] == ["interrupted"] * 2
        assert "w1" not in fleet.workers
        by = claims(bus, "w2")
        claim = await by.claim(again[0], by.open(again[0]))
        assert claim is not None
        assert claim.lease.attempt == 2


async def test_rule_19_a_frozen_worker_is_left_to_ack_wait(bus: Bus) -> None:
    job = tone_job()
    await bus.topology.declare_consumers("tone", "v1")
    await submit(bus, job)
    async with gateway(bus, silent_s=1.3) as fleet, process(bus, "w1", num_jobs=1) as worker:
        await eventually(lambda: answers(fleet, "w1"))
        freeze(worker.pid)
        await eventually(lambda: fleet.is_silent(fleet.workers["w1"]))
        assert not fleet.ready_workers
        assert await why(bus, key_of(bus, job)) == "running"
        worker.send_signal(signal.SIGCONT)
        await eventually(lambda: fleet.ready_workers)
        assert await why(bus, key_of(bus, job)) == "running"


async def test_rule_19_of_two_gateways_that_find_a_worker_dead_one_gives_its_job_back(bus: Bus) -> None:
    job = tone_job()
    await bus.topology.declare_consumers("tone", "v1")
    await submit(bus, job)
    naks: list[bytes] = []
    bus.connection.subscribe("$JS.ACK.>", lambda message: naks.append(message.data))
    async with open_bus(bus.settings, "test") as other:
        async with gateway(bus) as one, gateway(other) as two, process(bus, "w1", num_jobs=1) as worker:
            await eventually(lambda: answers(one, "w1") and answers(two, "w1"))
            worker.kill()
            delivery = await pull(bus)
            assert delivery.num_delivered == 2
            await eventually(lambda: "w1" not in one.workers and "w1" not in two.workers)
        # Both have handled the death.
        await bus.connection.flush()
        assert naks.count(b"-NAK") == 1


async def test_rule_19_a_gateway_that_loses_the_lease_gives_nothing_back(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the dead worker's lease before either takes it."""
    job = tone_job()
    await bus.topology.declare_consumers("tone", "v1")
    await submit(bus, job)
    delivery = await pull(bus)
    by = claims(bus, "w1")
    assert await by.claim(delivery, by.open(delivery))
    naks: list[bytes] = []
    bus.connection.subscribe("$JS.ACK.>", lambda message: naks.append(message.data))
    original, readers, both = bus.logs.lease, [], asyncio.Event()

    async def lease(key: JobKey) -> object:
        found = await original(key)
        readers.append(key)
        if len(readers) == 2:
            both.set()
        await both.wait()
        return found

    monkeypatch.setattr(bus.logs, "lease", lease)
    dead = beat("w1", "b1", [Held(job.tenant, job.id)])
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            Takeovers(bus, tasks, lambda _: ()).start(dead, None)
    await bus.connection.flush()
    assert naks == [b"-NAK"]


async def test_rule_19_another_boot_in_the_pong_is_a_dead_worker_too(bus: Bus) -> None:
    job = tone_job()
    await bus.topology.declare_consumers("tone", "v1")
    await submit(bus, job)
    delivery = await pull(bus)
    by = claims(bus, "w1", boot="old")
    assert await by.claim(delivery, by.open(delivery))
    held = [Held(job.tenant, job.id)]
    async with open_bus(bus.settings, "test") as worker, gateway(bus) as fleet:
        async with present(worker, "w1", "old", held):
            await eventually(lambda: answers(fleet, "w1"))
        async with present(worker, "w1", "new"):
            assert (await pull(bus)).seq == delivery.seq
            assert await why(bus, key_of(bus, job)) == "interrupted"
            await eventually(lambda: "w1" in fleet.workers and fleet.workers["w1"].heartbeat.boot == "new")


async def test_a_job_that_no_heartbeat_listed_goes_on_at_once_if_it_has_a_listener(bus: Bus) -> None:
    job, running = tone_job(), tone_job()
    await bus.topology.declare_consumers("tone", "v1")
    by = {"w1": claims(bus, "w1", boot="old"), "w2": claims(bus, "w2")}
    for worker, each in (("w1", job), ("w2", running)):
        await submit(bus, each)
        delivery = await pull(bus)
        assert await by[worker].claim(delivery, by[worker].open(delivery))
    keys = [key_of(bus, job), key_of(bus, running)]
    async with open_bus(bus.settings, "test") as worker, gateway(bus, lambda _: keys) as fleet:
        async with present(worker, "w1", "old", []):
            await eventually(lambda: answers(fleet, "w1"))
        async with present(worker, "w1", "new"):
            assert (await pull(bus)).num_delivered == 2
            assert [await why(bus, key) for key in keys] == ["interrupted", "running"]


async def test_rule_19_only_the_dead_workers_own_lease_is_taken_away(bus: Bus) -> None:
    """Its last heartbeat lists a job that another worker runs by now, and one that has ended."""
    moved, ended = tone_job(), tone_job()
    await bus.topology.declare_consumers("tone", "v1")
    for job in (moved, ended):
        await submit(bus, job)
        delivery = await pull(bus)
        by = claims(bus, "w2" if job is moved else "w1")
        assert await by.claim(delivery, by.open(delivery))
    await bus.logs.end(key_of(bus, ended), wire.End.CANCELLED, "")
    held = [Held(job.tenant, job.id) for job in (moved, ended)] + [Held("public", "never")]
    async with open_bus(bus.settings, "test") as worker, gateway(bus) as fleet:
        async with present(worker, "w1", "b1", held):
            await eventually(lambda: answers(fleet, "w1"))
        await eventually(lambda: "w1" not in fleet.workers)
    assert await why(bus, key_of(bus, moved)) == "running"
    assert (await status(bus.logs, key_of(bus, ended))).state == "cancelled"


async def test_a_job_that_its_worker_ended_just_before_it_died_is_settled_and_not_waited_for(bus: Bus) -> None:
    job = tone_job()
    _, _, by = await start(bus, job)
    await by.end(wire.End.DONE, done(by))
    acks: list[bytes] = []
    bus.connection.subscribe(f"$JS.ACK.{bus.subjects.jobs_stream}.>", lambda message: acks.append(message.data))
    dead = beat("w1", "b1", [Held(job.tenant, job.id)])
    async with asyncio.TaskGroup() as tasks:
        takeovers = Takeovers(bus, tasks, lambda _: ())
        takeovers.start(dead, None)
    await eventually(lambda: acks)
    assert takeovers.num_timed == 0, "no attempt will follow"
    await bus.connection.flush()
    assert acks == [b"+ACK"]
    async with asyncio.timeout(20):
        while await num_jobs(bus):
            await asyncio.sleep(0.01)


async def test_rule_19_a_worker_that_never_answered_here_is_not_found_dead(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tone_job()
    await bus.topology.declare_consumers("tone", "v1")
    await submit(bus, job)
    delivery = await pull(bus)
    by = claims(bus, "w1")
    assert await by.claim(delivery, by.open(delivery))
    original, pings = bus.connection.request, list[str]()

    async def request(subject: str, *args: Any, **kwargs: Any) -> Message:
        pings.append(subject)
        return await original(subject, *args, **kwargs)

    monkeypatch.setattr(bus.connection, "request", request)
    async with gateway(bus) as fleet:
        data = wire.encode(beat("w1", "b1", [Held(job.tenant, job.id)]))
        bus.connection.publish(bus.subjects.heartbeat("w1"), data)
        await eventually(lambda: pings.count(bus.subjects.ping("w1")) > 4)
        assert "w1" in fleet.workers
    assert await why(bus, key_of(bus, job)) == "running"


async def test_rule_19_a_second_live_worker_of_one_id_refuses_to_start(bus: Bus) -> None:
    async with open_bus(bus.settings, "test") as first, present(first, "w1", "b1"):
        async with asyncio.timeout(20):
            while not await answers_pings(bus, "w1"):  # its task may not have subscribed yet
                await asyncio.sleep(0)
        second = Presence(bus, "w1", "b2", lambda: beat("w1", "b2", []), lambda _: None)
        with pytest.raises(DuplicateWorkerId, match=r"'w1'.*boot b1"):
            await second.ensure_unique_id()
        await Presence(bus, "w2", "b2", lambda: beat("w2", "b2", []), lambda _: None).ensure_unique_id()


async def test_rule_19_a_heartbeat_goes_out_at_every_change_and_a_burst_of_changes_is_one(bus: Bus) -> None:
    beats: list[bytes] = []
    bus.connection.subscribe(bus.subjects.heartbeat("w1"), lambda message: beats.append(message.data))
    # Gathering takes far longer than the burst, and far less than the interval of heartbeats.
    async with present(bus, "w1", "b1", gather_s=1.0, heartbeat_s=600.0) as presence:
        await eventually(lambda: len(beats) == 1)
        for _ in range(50):
            presence.changed()
            await asyncio.sleep(0)
        await eventually(lambda: len(beats) == 2)
        presence.changed()
        await eventually(lambda: len(beats) == 3)
    await bus.connection.flush()
    assert len(beats) == 4, "the last one is sent when it stops"


@pytest.mark.slow
async def test_rule_19_a_heartbeat_goes_out_each_second_when_nothing_changes(bus: Bus) -> None:
    made: list[float] = []

    def make() -> Heartbeat:
        made.append(time.monotonic())
        return beat("w1", "b1", [])

    running = asyncio.ensure_future(Presence(bus, "w1", "b1", make, lambda _: None).run())
    await eventually(lambda: len(made) == 5)
    running.cancel()
    await asyncio.wait({running})
    gaps = [made[number + 1] - made[number] for number in range(4)]
    assert 0.95 < min(gaps) < 1.5, gaps  # a busy machine is busy now and then


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage\xff",
        wire.encode(beat("another", "b1", [])),
        wire.encode(beat("w1", "b1", [Held("public", "bad.id")])),
        wire.encode(beat("w1", "b1", [Held("*", "x")])),
    ],
)
async def test_a_malformed_heartbeat_and_one_of_another_worker_are_ignored(bus: Bus, data: bytes) -> None:
    async with gateway(bus) as fleet:
        bus.connection.publish(bus.subjects.heartbeat("w1"), data)
        bus.connection.publish(f"{bus.subjects.root}.worker.bad!id.hb", wire.encode(beat("bad!id", "b1", [])))
        await bus.connection.flush()
        assert not fleet.workers
        async with open_bus(bus.settings, "test") as other, present(other, "w2", "b1"):
            await eventually(lambda: answers(fleet, "w2"))


async def test_models_that_workers_offer_are_known_and_remembered_after_them(bus: Bus) -> None:
    async with gateway(bus) as fleet:
        assert not fleet.ready_workers
        async with open_bus(bus.settings, "test") as other, present(other, "w1", "b1"):
            await eventually(fleet.cards)
            assert fleet.cards() == {"tone": CARD}
            assert fleet.ready_workers
            assert fleet.workers["w1"].heartbeat.started == {"tone=v1=interactive": 3}
        await eventually(lambda: not fleet.workers)
        assert not fleet.cards()
        assert (fleet.card("tone"), fleet.known_models) == (CARD, ["tone"])
    assert not listens(bus)
