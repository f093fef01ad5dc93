"""A puller whose worker is played by the test."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bus import wire
from bus.jobs.client import Bus
from bus.jobs.lanes import Lane
from bus.jobs.puller import Puller, PullSettings
from bus.subjects import LANES
from bus.transport.pull import Delivery


class Hands:
    """A worker of so many slots, and the deliveries that came into them."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.most = 0
        self.held: list[Delivery] = []
        self.came: list[Delivery] = []
        #: Called with each delivery; does nothing unless a test sets it.
        self.on: Callable[[Delivery], None] = lambda _: None
        self.puller: Puller
        #: Set when a slot becomes free.
        self.capacity = asyncio.Event()

    def free(self) -> int:
        return self.slots - len(self.held)

    def deliver(self, delivery: Delivery) -> None:
        self.held.append(delivery)
        self.came.append(delivery)
        self.most = max(self.most, len(self.held))
        self.on(delivery)

    def finish(self, delivery: Delivery) -> None:
        self.held.remove(delivery)
        delivery.ack()
        self.capacity.set()

    def finish_after(self, seconds: Callable[[], float]) -> None:
        """Finish each delivery so many seconds after it came."""
        loop = asyncio.get_running_loop()
        self.on = lambda delivery: loop.call_later(seconds(), self.finish, delivery) and None

    @property
    def lanes(self) -> list[str]:
        return [delivery.subject.split(".")[4] for delivery in self.came]

    @property
    def seqs(self) -> list[int]:
        return [delivery.seq for delivery in self.came]


@asynccontextmanager
async def pulling(bus: Bus, slots: int, settings: PullSettings | None = None) -> AsyncIterator[Hands]:
    """Pull `tone` jobs of all lanes into so many slots."""
    names = await bus.topology.declare_consumers("tone", "v1")
    hands = Hands(slots)
    lanes = [Lane(lane, (name,)) for lane, name in zip(LANES, names, strict=True)]
    hands.puller = Puller(
        bus.connection, bus.subjects.jobs_stream, lanes, hands.free, hands.deliver, settings, hands.capacity
    )
    running = asyncio.ensure_future(hands.puller.run())
    try:
        yield hands
    finally:
        running.cancel()
        await asyncio.wait({running})


async def queue(bus: Bus, lane: str, count: int = 1) -> list[int]:
    """Publish jobs; returns their sequences."""
    subject = bus.subjects.job("tone", "v1", lane, "public")
    data = wire.encode(wire.Job(input="x"))
    return [(await bus.js.publish(subject, data)).seq for _ in range(count)]


def deliveries(*hands: Hands) -> Counter[int]:
    """How often each message was delivered to any of `hands`."""
    return Counter(delivery.seq for each in hands for delivery in each.came)


async def consumer_info(bus: Bus, lane: str) -> dict[str, int]:
    name = bus.subjects.consumer("tone", "v1", lane)
    return dict(await bus.js.api(f"CONSUMER.INFO.{bus.subjects.jobs_stream}.{name}"))
