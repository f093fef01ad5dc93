"""Rate-limit state that gateways exchange, over a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bus import wire
from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from gateway.limits.gossip import LATE_S, TIMES, AcceptedJob, AccountGrants, Gossip, GossipTimes, Usage, UsageMessage
from tests.support.waiting import eventually


class Member:
    """A gateway: the grants that it reports, and the messages that it sends and receives."""

    def __init__(self, bus: Bus, times: GossipTimes) -> None:
        self.clock_ahead_s = 0.0
        self.gossip = Gossip(bus.connection, bus.subjects, lambda: bus.clock.now() + self.clock_ahead_s, times)
        self.num_grants = 0
        self.accepted: list[AcceptedJob] = []
        self.received: list[tuple[str, Usage, bool]] = []
        self.left: list[str] = []
        self.late_s = 0.0
        #: Loop time and content of every message sent.
        self.sent: list[tuple[float, UsageMessage]] = []
        #: Messages still to be lost instead of sent.
        self.num_lost = 0
        self._num_new = 0
        self._publish = bus.connection.publish
        bus.connection.publish = self._send  # type: ignore[method-assign]

    def _send(self, subject: str, payload: bytes) -> None:
        self.sent.append((asyncio.get_running_loop().time(), wire.decode(UsageMessage, payload)))
        if self.num_lost:
            self.num_lost -= 1
        else:
            self._publish(subject, payload)

    def grant(self) -> None:
        self.num_grants += 1
        self._num_new += 1
        self.gossip.changed()

    def take_changes(self, *, full: bool) -> Usage:
        num_new, self._num_new = self._num_new, 0
        grants = [AccountGrants("key-a", self.num_grants, num_new, 0.1, 0.0, 0.0)]
        return Usage(spent=grants if num_new or full else [], began=self.accepted)

    def merge(self, gateway: str, usage: Usage, *, late_s: float, full: bool) -> None:
        self.received.append((gateway, usage, full))
        self.late_s = late_s

    def gateway_left(self, gateway: str) -> None:
        self.left.append(gateway)

    @property
    def num_grants_received(self) -> int:
        return max((each.num_grants for _, usage, _ in self.received for each in usage.spent), default=0)


@asynccontextmanager
async def member(settings: BusSettings, times: GossipTimes = TIMES) -> AsyncIterator[Member]:
    """On a connection of its own, as every gateway is."""
    async with open_bus(settings, "gateway") as bus:
        found = Member(bus, times)
        running = asyncio.create_task(found.gossip.run(found))
        try:
            yield found
        finally:
            running.cancel()
            await asyncio.wait((running,))
            await bus.connection.flush()


@pytest.fixture
def times() -> GossipTimes:
    return TIMES


@pytest.fixture
async def two(bus_settings: BusSettings, times: GossipTimes) -> AsyncIterator[tuple[Member, Member]]:
    async with member(bus_settings, times) as one, member(bus_settings, times) as other:
        await eventually(lambda: one.gossip.num_gateways == other.gossip.num_gateways == 2)
        yield one, other


async def test_changes_after_a_silence_leave_at_once_and_then_at_most_every_100_ms(two: tuple[Member, Member]) -> None:
    one, other = two
    loop = asyncio.get_running_loop()
    await eventually(lambda: loop.time() - one.sent[-1][0] > TIMES.interval_s)
    num_sent = len(one.sent)
    one.grant()
    for _ in range(2):  # turns of the event loop
        await asyncio.sleep(0)
    began_at, message = one.sent[num_sent]
    assert message.usage.spent, "at once"
    while loop.time() - began_at < 5 * TIMES.interval_s:
        one.grant()
        await asyncio.sleep(0.002)
    await eventually(lambda: other.num_grants_received == one.num_grants)
    times = [at for at, message in one.sent[num_sent:] if message.usage.spent]
    assert 2 <= len(times) <= (times[-1] - began_at) / TIMES.interval_s + 1.5
    assert sum(each.num_new for _, usage, _ in other.received for each in usage.spent) == one.num_grants


async def test_a_gateway_that_joins_receives_the_full_state(
    two: tuple[Member, Member], bus_settings: BusSettings
) -> None:
    one, _ = two
    one.grant()
    async with member(bus_settings) as newcomer:
        await eventually(
            lambda: any(each.num_grants for _, usage, full in newcomer.received if full for each in usage.spent)
        )
        await eventually(lambda: newcomer.gossip.num_gateways == one.gossip.num_gateways == 3)
    await eventually(lambda: one.gossip.num_gateways == 2)
    assert one.left == [newcomer.gossip.id], "a gateway that stops says so"


@pytest.mark.parametrize("times", [GossipTimes(heartbeat_s=0.1, silence_s=1.0)])
async def test_a_silent_gateway_is_counted_no_longer(two: tuple[Member, Member]) -> None:
    one, other = two
    other.num_lost = 1_000_000
    await eventually(lambda: one.gossip.num_gateways == 1)
    assert set(one.left) == {other.gossip.id}


async def test_a_lost_message_makes_the_receiver_request_the_full_state(two: tuple[Member, Member]) -> None:
    one, other = two
    num_received = len(other.received)
    one.num_lost = 1
    one.grant()
    await eventually(lambda: not one.num_lost)
    one.grant()
    await eventually(lambda: any(full for _, usage, full in other.received[num_received:] if usage.spent))


async def test_a_message_that_arrives_late_is_reported_as_late(two: tuple[Member, Member]) -> None:
    one, other = two
    loop = asyncio.get_running_loop()
    for sent_ago_s in (0, 30):  # the latter as by a process that was frozen for half a minute
        one.clock_ahead_s = -sent_ago_s
        sent_at = loop.time()
        one.grant()
        await eventually(lambda: other.num_grants_received == one.num_grants)
        took_s = loop.time() - sent_at
        assert other.late_s == 0 or other.late_s > LATE_S
        # Each gateway learnt the bus's clock by itself, from one round trip.
        assert sent_ago_s - 0.25 <= other.late_s <= sent_ago_s + took_s + 0.25


async def test_a_long_report_comes_in_parts_that_fit_a_message(two: tuple[Member, Member]) -> None:
    one, other = two
    one.accepted = [AcceptedJob("key-a", "t" * 60, f"{index:060}", 2**60, True) for index in range(3000)]
    one.gossip.changed()
    await eventually(lambda: sum(len(usage.began) for _, usage, _ in other.received) >= 3000)
    assert max(len(usage.began) for _, usage, _ in other.received) <= 250


async def test_a_malformed_message_is_skipped(two: tuple[Member, Member], bus: Bus) -> None:
    one, other = two
    head = b'{"gateway":"x","at":1.0,"seq":1,"usage":'
    for nonsense in (
        *(b"", b"{}", b"\xff", head + b'{"spent":[["a"]]}}', head + b'{"spent":[["a",1,1,-1,0,0]]}}'),
        head + b'{"began":[["key-a","two.tokens","j",0,true]]}}',
    ):
        bus.connection.publish(bus.subjects.gateway_usage("x"), nonsense)
    await bus.connection.flush()
    one.grant()
    await eventually(lambda: other.num_grants_received == 1)
    assert other.gossip.num_gateways == 2
    assert {gateway for gateway, _, _ in other.received} == {one.gossip.id}
