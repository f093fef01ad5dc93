"""What gateways tell each other of the limits' use, over a real nats-server; and the ledger of audio."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bus import wire
from bus.access.keyring import KeyRing
from bus.access.keys import Keys, Limits
from bus.errors import TooMany
from bus.jobs.client import Bus, open_bus
from bus.jobs.submit import submit
from bus.settings import BusSettings
from gateway.access.caller import Caller
from gateway.limits import gossip as usage_module
from gateway.limits.audio_charges import Audio
from gateway.limits.counted_jobs import Counted, CountedJobs
from gateway.limits.gossip import _LATE_S, EVERY_S, Began, Gossip, Spent, Usage
from gateway.limits.limiter import Limiter
from gateway.limits.rates import Rate
from gateway.limits.reconcile import Watch
from gateway.limits.usage_ledger import Ledger
from tests.support.bus import start, write
from tests.support.jobs import tone_job
from tests.support.nats import fresh_root
from tests.support.restarts import own_server
from tests.support.waiting import eventually


class Teller:
    """A gateway's news, and what it hears."""

    def __init__(self, gossip: Gossip) -> None:
        self.gossip = gossip
        self.grants, self.more = 0, 0
        self.heard: list[tuple[str, Usage, bool]] = []
        self.parted: list[str] = []
        self.late_s = 0.0

    def grant(self) -> None:
        self.grants, self.more = self.grants + 1, self.more + 1
        self.gossip.changed()

    def news(self, *, everything: bool) -> Usage:
        more, self.more = self.more, 0
        return Usage(spent=[Spent("key-a", self.grants, more, 0.1, 0.0, 0.0)] if more or everything else [])

    def hear(self, gateway: str, usage: Usage, *, late_s: float, everything: bool) -> None:
        self.heard.append((gateway, usage, everything))
        self.late_s = late_s

    def gone(self, gateway: str) -> None:
        self.parted.append(gateway)

    @property
    def grants_heard(self) -> int:
        return max((spent.grants for _, usage, _ in self.heard for spent in usage.spent), default=0)


@asynccontextmanager
async def teller(settings: BusSettings) -> AsyncIterator[Teller]:
    """On a connection of its own, as every gateway is."""
    async with open_bus(settings, "gateway") as bus:
        found = Teller(Gossip(bus.connection, bus.subjects, bus.clock))
        running = asyncio.create_task(found.gossip.run(found))
        try:
            yield found
        finally:
            running.cancel()
            await asyncio.wait((running,))
            await bus.connection.flush()


@pytest.fixture
async def two(bus_settings: BusSettings) -> AsyncIterator[tuple[Teller, Teller]]:
    async with teller(bus_settings) as one, teller(bus_settings) as other:
        await eventually(lambda: one.gossip.num_gateways == other.gossip.num_gateways == 2)
        yield one, other


async def test_news_after_a_silence_is_told_at_once_and_then_at_most_every_100_ms(two: tuple[Teller, Teller]) -> None:
    one, other = two
    loop, gossip = asyncio.get_running_loop(), one.gossip
    # What was said in greeting is no silence.
    await eventually(lambda: gossip._timer is None and loop.time() - gossip._told_at > EVERY_S)
    one.grant()
    assert gossip._timer is not None
    assert gossip._timer.when() <= loop.time(), "at once"
    await eventually(lambda: other.grants_heard == 1)
    began_at, before = gossip._told_at, len(other.heard)
    while loop.time() - began_at < 5 * EVERY_S:
        one.grant()
        await asyncio.sleep(0.002)
    await eventually(lambda: other.grants_heard == one.grants)
    num_told = sum(bool(usage.spent) for _, usage, _ in other.heard[before:])
    assert 1 <= num_told <= (gossip._told_at - began_at) / EVERY_S + 0.5
    assert sum(spent.more for _, usage, _ in other.heard for spent in usage.spent) == one.grants


async def test_a_newcomer_is_told_everything(two: tuple[Teller, Teller], bus_settings: BusSettings) -> None:
    one, _ = two
    one.grant()
    async with teller(bus_settings) as newcomer:
        # And not only by what is told to all.
        await eventually(lambda: any(told.grants for _, usage, full in newcomer.heard if full for told in usage.spent))
        await eventually(lambda: newcomer.gossip.num_gateways == one.gossip.num_gateways == 3)
    await eventually(lambda: one.gossip.num_gateways == 2)
    assert one.parted == [newcomer.gossip.me], "whoever stops says so"


async def test_whoever_is_silent_is_counted_no_more(
    two: tuple[Teller, Teller], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    monkeypatch.setattr(usage_module, "GONE_S", 0.5)
    other.gossip._connection.publish = lambda *_, **__: None  # type: ignore[method-assign]
    await eventually(lambda: one.gossip.num_gateways == 1)
    assert one.parted == [other.gossip.me]


async def test_a_lost_message_makes_the_hearer_ask_for_everything(two: tuple[Teller, Teller]) -> None:
    one, other = two
    one.gossip._seq += 1  # as if one message had not arrived
    one.grant()
    await eventually(lambda: any(everything for _, usage, everything in other.heard[1:] if usage.spent))


async def test_what_is_heard_late_is_known_to_be_late(two: tuple[Teller, Teller]) -> None:
    one, other = two
    clock = one.gossip._clock
    clock._offset_s = other.gossip._clock._offset_s  # each learnt it by a question of its own, however long that took
    for said_ago_s in (0, 30):  # half a minute: heard by whoever was frozen since
        clock._offset_s, said_at = clock._offset_s - said_ago_s, time.monotonic()
        one.grant()
        await eventually(lambda: other.grants_heard == one.grants)
        assert other.late_s == 0 or other.late_s > _LATE_S
        assert said_ago_s - 0.01 <= other.late_s <= said_ago_s + time.monotonic() - said_at + 0.01


async def test_long_news_comes_in_parts_that_a_message_can_hold(two: tuple[Teller, Teller]) -> None:
    one, other = two
    began = [Began("key-a", "t" * 60, f"{index:060}", 2**60, True) for index in range(3000)]
    one.news = lambda *, everything: Usage(began=began)  # type: ignore[method-assign]
    one.gossip.changed()
    await eventually(lambda: sum(len(usage.began) for _, usage, _ in other.heard) >= 3000)
    assert max(len(usage.began) for _, usage, _ in other.heard) <= 250


async def test_what_is_no_word_of_a_gateway_is_passed_over(two: tuple[Teller, Teller], bus: Bus) -> None:
    one, other = two
    head = b'{"gateway":"x","at":1.0,"seq":1,"usage":'
    for nonsense in (
        *(b"", b"{}", b"\xff", head + b'{"spent":[["a"]]}}', head + b'{"spent":[["a",1,1,-1,0,0]]}}'),
        head + b'{"began":[["key-a","two.tokens","j",0,true]]}}',
    ):
        bus.connection.publish(bus.subjects.gateway_usage("x"), nonsense)
    await bus.connection.flush()
    one.grant()
    await eventually(lambda: other.grants_heard == 1)
    assert other.gossip.num_gateways == 2
    assert {gateway for gateway, _, _ in other.heard} == {one.gossip.me}


@asynccontextmanager
async def limiters(settings: BusSettings, count: int) -> AsyncIterator[list[tuple[Bus, Limiter]]]:
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        found = []
        running = []
        for _ in range(count):
            bus = await stack.enter_async_context(open_bus(settings, "gateway"))
            limiter = Limiter(bus, KeyRing(bus), None, tasks)
            running.append(tasks.create_task(limiter.run()))
            found.append((bus, limiter))
        await eventually(lambda: all(limiter._gossip.num_gateways == count for _, limiter in found))
        yield found
        for task in running:
            task.cancel()


def num_granted(limiter: Limiter, caller: Caller, tries: int) -> int:
    granted = 0
    for _ in range(tries):
        try:
            limiter.request(caller)
        except TooMany:
            continue
        granted += 1
    return granted


def left(limiter: Limiter) -> int:
    return limiter._rates.standing("key-k", Rate(0.001, 12), time.monotonic()).left


async def test_without_nats_each_gateway_grants_its_fair_share_and_with_it_the_debt_is_known_again() -> None:
    caller = Caller(key="k", limits=Limits(requests_per_s=0.001, burst=12))
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, own_server(Path(folder)) as server:
        settings = BusSettings(nats=server.url, root=fresh_root(), jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)
        async with limiters(settings, 3) as three:
            server.kill()
            await eventually(lambda: not any(bus.connection.state.is_up for bus, _ in three))
            assert [num_granted(limiter, caller, 20) for _, limiter in three] == [4, 4, 4]
            server.start()
            await eventually(lambda: all(bus.connection.state.is_up for bus, _ in three), 30)
            # Each has 8 left of its own count: only the others' word makes it none.
            await eventually(lambda: [left(limiter) for _, limiter in three] == [0, 0, 0])


async def test_the_ledger_adds_up_charges_a_job_once_and_outlives_whoever_wrote_it(bus_settings: BusSettings) -> None:
    async with open_bus(bus_settings, "gateway") as bus:
        ledger = Ledger(bus)
        assert await ledger.used_ms("2030-01-01", "key-a") == 0
        assert await ledger.charge("2030-01-01", "key-a", "acme", "j1", 1500) == 1500
        totals = await asyncio.gather(
            *(Ledger(bus).charge("2030-01-01", "key-a", "acme", job, 700) for job in ("j2", "j2", "j3", "j3", "j3"))
        )
        assert max(totals) == 2900
        assert await ledger.charge("2030-01-02", "key-a", "acme", "j4", 5) == 5
    async with open_bus(bus_settings, "gateway") as bus:
        assert [await Ledger(bus).used_ms("2030-01-01", key) for key in ("key-a", "key-b")] == [2900, 0]


async def test_a_log_that_tells_no_length_keeps_no_other_job_from_being_charged(bus: Bus) -> None:
    by = []
    for number in range(2):
        _, claim, writer = await start(bus, tone_job(id=f"j{number}"))
        if not number:
            writer._started = None  # as if what began the log had been removed
        await write(writer, 3, frames=8000)
        await bus.logs.end(claim.key, wire.End.CANCELLED, "by the test")
        by.append(claim.key)
    async with asyncio.TaskGroup() as tasks:
        jobs, gossip, audio = CountedJobs("me"), Gossip(bus.connection, bus.subjects, bus.clock), Audio(bus)
        watch = Watch(bus, jobs, audio, gossip, tasks, lambda *_: Limits())
        for name in by:
            key = (name.tenant, name.job)
            jobs.add(Counted(key, "key-k", "me", time.monotonic(), 0.0, 1, is_charged=True))
            watch.ended(key)
    assert await audio.used_s("key-k") == 1.0
    assert not watch._owing


async def test_what_was_accepted_before_a_gateway_began_is_known_to_it_though_nobody_asks(bus: Bus) -> None:
    key, _ = await Keys(bus).create("acme", Limits(audio_s_per_day=10))
    await submit(bus, tone_job(id="before", tenant="acme", client=wire.Client(api="jobs", key=key.id)))
    async with asyncio.TaskGroup() as tasks:
        ring = KeyRing(bus)
        limiter = Limiter(bus, ring, None, tasks)
        running = [tasks.create_task(ring.run()), tasks.create_task(limiter.run())]
        await eventually(lambda: limiter._jobs.get(("acme", "before")) is not None)
        for task in running:
            task.cancel()


class Room:
    """An account with one job, whose message is in the queue; and how often the queue was asked about it."""

    def __init__(self, bus: Bus, queue_seq: int, tasks: asyncio.TaskGroup) -> None:
        self.looks, self.leaves_after = 0, -1
        jobs, gossip = CountedJobs("me"), Gossip(bus.connection, bus.subjects, bus.clock)
        self.watch = Watch(bus, jobs, Audio(bus), gossip, tasks, lambda *_: Limits())
        jobs.add(Counted(("acme", "j"), "key-k", "other", time.monotonic(), 0.0, queue_seq))
        self._bus, self.queue_seq = bus, queue_seq
        self._holds, bus.js.direct.holds = bus.js.direct.holds, self._counted  # type: ignore[method-assign]

    async def _counted(self, stream: str, seq: int) -> bool:
        self.looks += 1
        holds = await self._holds(stream, seq)
        if self.looks == self.leaves_after:
            await self.leave_the_queue()
        return holds

    async def leave_the_queue(self) -> None:
        await self._bus.js.delete(self._bus.subjects.jobs_stream, self.queue_seq)


@pytest.fixture
async def room(bus: Bus) -> AsyncIterator[Room]:
    ack = await bus.js.publish(bus.subjects.job("m", "v1", "batch", "acme"), b'{"input":"x"}')
    async with asyncio.TaskGroup() as tasks:
        yield Room(bus, ack.seq, tasks)


async def test_a_job_that_leaves_the_queue_while_somebody_wants_its_place_gives_it(room: Room) -> None:
    room.leaves_after = 1
    assert await room.watch.make_room("key-k", 1)
    assert room.looks == 2


async def test_those_who_want_room_at_once_share_the_looks_and_whoever_comes_later_gets_a_new_one(room: Room) -> None:
    assert not any(await asyncio.gather(*(room.watch.make_room("key-k", 1) for _ in range(200))))
    assert room.looks <= 4
    await room.leave_the_queue()
    assert await room.watch.make_room("key-k", 1)
