"""Pulling: never more than there are slots, high lanes first, no consumer forgotten, whatever breaks."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import pytest

from bus.jobs.client import Bus, open_bus
from bus.jobs.puller import PullSettings
from bus.settings import BusSettings
from bus.subjects import LANES
from bus.transport.parser import Message
from tests.support.bus import footprint, num_jobs, until
from tests.support.pulling import consumer_info, deliveries, pulling, queue
from tests.support.restarts import own_server
from tests.support.waiting import eventually

QUICK = PullSettings(expires_s=2.0, heartbeat_s=0.2, answer_s=0.5)
#: Where the order counts, a server that stood still for a moment must not be passed over.
PATIENT = PullSettings(expires_s=20, heartbeat_s=10, answer_s=20)


@pytest.fixture
def ack_wait_s() -> float:
    """A message that is not given back comes again long after the test has failed."""
    return 30.0


async def emptied(bus: Bus) -> bool:
    return await num_jobs(bus) == 0


@pytest.mark.parametrize("slots", [1, 4])
async def test_never_more_jobs_are_held_than_there_are_slots_and_each_comes_once(bus: Bus, slots: int) -> None:
    chance = random.Random(slots)
    async with pulling(bus, slots) as hands:
        published = await queue(bus, "batch", slots + 1)
        await eventually(lambda: len(hands.held) == slots, within_s=20)
        hands.finish_after(lambda: chance.choice([0.0, 0.001, 0.01]))
        for delivery in [*hands.held]:
            hands.finish(delivery)
        for _ in range(40):
            published += await queue(bus, chance.choice(LANES), chance.choice([1, 1, 4]))
        await eventually(lambda: len(hands.held) == 0 and len(hands.came) >= len(published), within_s=20)
        await until(lambda: emptied(bus), within_s=20)
    assert hands.most == slots
    assert deliveries(hands) == dict.fromkeys(published, 1)


async def test_high_lanes_go_first(bus: Bus) -> None:
    await bus.topology.declare_consumers("tone", "v1")
    for lane in reversed(LANES):
        await queue(bus, lane, 4)
    async with pulling(bus, 1, PATIENT) as hands:
        hands.finish_after(lambda: 0.001)
        await eventually(lambda: len(hands.came) == 12, within_s=20)
    assert hands.lanes == ["interactive"] * 4 + ["standard"] * 4 + ["batch"] * 4


async def test_a_waiting_low_lane_gets_its_turn_after_so_many_others(bus: Bus) -> None:
    await bus.topology.declare_consumers("tone", "v1")
    await queue(bus, "batch", 3)
    await queue(bus, "interactive", 40)
    async with pulling(bus, 1, PATIENT) as hands:
        hands.finish_after(lambda: 0.0)
        await eventually(lambda: len(hands.came) == 43, within_s=20)
    places = [place for place, lane in enumerate(hands.lanes) if lane == "batch"]
    assert places[0] >= 8
    assert all(8 <= later - earlier <= 10 for earlier, later in zip([-1, *places], places, strict=False))


async def test_an_idle_puller_starts_a_job_at_once(bus: Bus) -> None:
    async with pulling(bus, 4) as hands:
        hands.finish_after(lambda: 0.0)
        took: dict[str, list[float]] = {lane: [] for lane in LANES}
        for lane in LANES * 5:
            came = len(hands.came)
            started = time.monotonic()
            await queue(bus, lane)
            await eventually(lambda came=came: len(hands.came) > came, within_s=20)
            took[lane].append(time.monotonic() - started)
    # Any single one may have been held up by the machine.
    assert all(median(each) < 0.3 for each in took.values()), took


async def test_a_freed_slot_is_used_although_nothing_new_is_published(bus: Bus) -> None:
    await bus.topology.declare_consumers("tone", "v1")
    await queue(bus, "batch", 2)
    async with pulling(bus, 1) as hands:
        await eventually(lambda: len(hands.came) == 1, within_s=20)
        hands.finish(hands.held[0])
        await eventually(lambda: len(hands.came) == 2, within_s=20)


async def test_a_message_that_comes_while_the_last_slot_is_taken_is_given_back_at_once(bus: Bus) -> None:
    """Three lanes deliver at once to a puller of one slot; with ack_wait at 30 s only a NAK brings the others elsewhere."""
    async with pulling(bus, 1) as full:
        for lane in LANES:
            await until(lambda lane=lane: _waits(bus, lane), within_s=20)
        seqs = [*await asyncio.gather(*(queue(bus, lane) for lane in LANES))]
        await eventually(lambda: len(full.came) == 1, within_s=20)
        async with open_bus(bus.settings, "test") as other, pulling(other, 4) as free:
            await eventually(lambda: len(free.came) == 2, within_s=20)
            assert deliveries(full, free) == {seq: 1 for (seq,) in seqs}
        assert full.most == 1


async def _waits(bus: Bus, lane: str) -> bool:
    return (await consumer_info(bus, lane))["num_waiting"] == 1


async def test_cancelling_withdraws_every_open_pull_and_gives_back_messages_on_the_wire(bus: Bus) -> None:
    before = footprint(bus.connection)
    async with pulling(bus, 2) as hands:
        for lane in LANES:
            await until(lambda lane=lane: _waits(bus, lane), within_s=20)
        running = [asyncio.ensure_future(queue(bus, lane)) for lane in LANES]
        await asyncio.sleep(0)
    seqs = [seq for one in running for seq in await one]
    for lane in LANES:
        await until(lambda lane=lane: _waits_for_nothing(bus, lane), within_s=20)
    async with open_bus(bus.settings, "test") as other, pulling(other, 9) as later:
        await eventually(lambda: len(hands.came) + len(later.came) == 3, within_s=20)
        assert deliveries(hands, later) == dict.fromkeys(seqs, 1)
    after = footprint(bus.connection)
    # The closed inbox still receives for its grace.
    assert (after[0], after[2], after[3]) == (before[0], before[2], before[3])


async def _waits_for_nothing(bus: Bus, lane: str) -> bool:
    return (await consumer_info(bus, lane))["num_waiting"] == 0


async def test_two_pullers_share_and_nothing_comes_twice(bus: Bus) -> None:
    async with open_bus(bus.settings, "test") as other, pulling(bus, 2) as one, pulling(other, 2) as two:
        for hands in (one, two):
            hands.finish_after(lambda: 0.005)
        seqs = await queue(bus, "standard", 60)
        await eventually(lambda: len(one.came) + len(two.came) == 60, within_s=20)
        assert deliveries(one, two) == dict.fromkeys(seqs, 1)
        assert min(len(one.came), len(two.came)) > 10


async def test_contention_does_not_deliver_a_job_again_and_again(bus: Bus) -> None:
    """Ten deliveries without a lease make a dead letter, so those that found every slot taken must stay few."""
    chance = random.Random(1)
    async with open_bus(bus.settings, "test") as other:
        pullers = [pulling(where, 1) for where in (bus, other) for _ in range(5)]
        pulled = [await one.__aenter__() for one in pullers]
        for hands in pulled:
            hands.finish_after(lambda: chance.random() * 0.02)
        seqs: list[int] = []
        for _ in range(15):
            for lane in LANES:
                seqs += await queue(bus, lane, 4)
        await eventually(lambda: sum(len(hands.came) for hands in pulled) >= len(seqs), within_s=25)
        for one in pullers:
            await one.__aexit__(None, None, None)
    assert deliveries(*pulled) == dict.fromkeys(seqs, 1)
    assert max(delivery.num_delivered for hands in pulled for delivery in hands.came) <= 5


async def test_open_pulls_are_sent_again_at_a_reconnect_and_not_when_their_silence_is_noticed(
    tmp_path: Path, bus_settings: BusSettings
) -> None:
    with own_server(tmp_path) as server:
        settings = msgspec.structs.replace(bus_settings, nats=server.url)
        async with open_bus(settings, "test") as bus, pulling(bus, 2, PATIENT) as hands:
            for lane in LANES:
                await until(lambda lane=lane: _waits(bus, lane), within_s=20)
            server.restart()
            await queue(bus, "batch")
            await eventually(lambda: hands.came, within_s=15)  # silence is noticed after 25


async def test_a_server_restart_costs_no_job(tmp_path: Path, bus_settings: BusSettings) -> None:
    with own_server(tmp_path) as server:
        settings = msgspec.structs.replace(bus_settings, nats=server.url)
        async with open_bus(settings, "test") as bus, pulling(bus, 2, QUICK) as hands:
            hands.finish_after(lambda: 0.0)
            before = await queue(bus, "standard", 5)
            await eventually(lambda: len(hands.came) == 5, within_s=20)
            await until(lambda: emptied(bus), within_s=20)
            server.restart()
            after = await queue(bus, "batch", 5)
            await eventually(lambda: set(hands.seqs) >= {*before, *after}, within_s=20)
            await until(lambda: emptied(bus), within_s=20)


async def test_a_deleted_consumer_keeps_no_other_lane_waiting_and_is_pulled_from_again_once_it_is_back(
    bus: Bus,
) -> None:
    async with pulling(bus, 2, QUICK) as hands:
        hands.finish_after(lambda: 0.0)
        name = bus.subjects.consumer("tone", "v1", "interactive")
        await bus.js.api(f"CONSUMER.DELETE.{bus.subjects.jobs_stream}.{name}")
        took = []
        for _ in range(5):
            started = time.monotonic()
            seq = await queue(bus, "batch")
            await eventually(lambda seq=seq: hands.seqs[-1:] == seq, within_s=20)
            took.append(time.monotonic() - started)
        assert median(took) < 1, took
        waiting = await queue(bus, "interactive", 3)
        await bus.topology.declare_consumers("tone", "v1")
        await eventually(lambda: set(hands.seqs) >= set(waiting), within_s=20)


async def test_a_consumer_whose_heartbeats_stop_gets_a_new_pull(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    original, lost = bus.connection.publish, list[str]()

    def publish(subject: str, data: bytes = b"", **kwargs: Any) -> None:
        if "idle_heartbeat" in str(data) and "batch" in subject.rsplit("=", maxsplit=1)[-1] and len(lost) < 2:
            lost.append(subject)  # on its way to the server
            return
        original(subject, data, **kwargs)

    monkeypatch.setattr(bus.connection, "publish", publish)
    async with pulling(bus, 2, QUICK) as hands:
        hands.finish_after(lambda: 0.0)
        await eventually(lambda: lost, within_s=20)
        seq = await queue(bus, "batch")
        # Another lane's traffic must not hide the silence of this one.
        async with asyncio.timeout(20):
            while seq[0] not in hands.seqs:
                await queue(bus, "standard")
                await asyncio.sleep(0.02)
        await eventually(lambda: len(lost) == 2, within_s=20)  # it stands open again


def shorten_on_the_wire(bus: Bus, monkeypatch: pytest.MonkeyPatch, **short_ns: int) -> list[str]:
    """Send long pulls with shorter times than the puller's own, so that to it the server is never silent for long.

    Returns the reply subjects of the long pulls, as they are sent.
    """
    original, replies = bus.connection.publish, list[str]()

    def publish(subject: str, data: bytes = b"", **kwargs: Any) -> None:
        if b"idle_heartbeat" in data:
            replies.append(kwargs["reply"])
            data = msgspec.json.encode(msgspec.json.decode(data) | short_ns)
        original(subject, data, **kwargs)

    monkeypatch.setattr(bus.connection, "publish", publish)
    return replies


async def test_an_open_pull_is_renewed_when_it_expires(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = shorten_on_the_wire(bus, monkeypatch, expires=250_000_000, idle_heartbeat=100_000_000)
    async with pulling(bus, 2, PATIENT) as hands:
        await eventually(lambda: len(opened) >= len(LANES) * 4, within_s=15)
        await queue(bus, "batch")
        await eventually(lambda: hands.came, within_s=15)


async def test_a_pull_that_beats_stays_open(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, beats = shorten_on_the_wire(bus, monkeypatch, idle_heartbeat=100_000_000), Counter[str]()

    def count(message: Message) -> None:
        if message.status == "100":
            beats[message.subject] += 1

    async with pulling(bus, 2, PATIENT):
        await eventually(lambda: len(opened) == len(LANES))
        for reply in opened:
            bus.connection.subscribe(reply, count)
        await eventually(lambda: all(beats[reply] >= 3 for reply in opened), within_s=15)
        assert len(opened) == len(LANES), "each was opened once"


async def test_two_pullers_never_share_an_inbox(bus: Bus) -> None:
    """Two processes may well have their objects at the same address."""
    inboxes: list[str] = []
    requests = f"$JS.API.CONSUMER.MSG.NEXT.{bus.subjects.jobs_stream}.>"  # others share the server
    bus.connection.subscribe(requests, lambda message: inboxes.append(message.reply))
    await bus.connection.flush()
    for _ in range(3):
        async with pulling(bus, 1, PATIENT):
            for lane in LANES:
                await until(lambda lane=lane: _waits(bus, lane), within_s=20)
        for lane in LANES:
            await until(lambda lane=lane: _waits_for_nothing(bus, lane), within_s=20)
    assert len({inbox.rpartition(".")[0] for inbox in inboxes}) == 3
