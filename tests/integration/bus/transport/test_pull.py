"""One pull over a real nats-server: a batch, an empty queue, a refusal, and messages that arrive too late."""

import asyncio

import pytest

from bus.errors import Unreachable
from bus.jobs.client import Bus
from bus.transport.parser import Message
from bus.transport.pull import pull_once
from bus.transport.stream_configs import HOOKS_CONSUMER
from tests.support.waiting import eventually


class Queue:
    """The queue of webhooks, a stream with one pull consumer. `late` are the messages that came after a pull."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._num_added = 0
        self.late: list[Message] = []

    async def add(self, count: int = 1) -> None:
        for _ in range(count):
            self._num_added += 1
            await self._bus.js.publish(self._bus.subjects.hook("public", f"j{self._num_added}"), b"x")

    async def pull(
        self, batch: int, expires_s: float = 0.0, answer_s: float = 10.0, consumer: str = HOOKS_CONSUMER
    ) -> list[Message]:
        return await pull_once(
            self._bus.connection,
            self._bus.subjects.hooks_stream,
            consumer,
            role="gateway",
            batch=batch,
            expires_s=expires_s,
            answer_s=answer_s,
            on_late=self.late.append,
        )


@pytest.fixture
async def queue(bus: Bus) -> Queue:
    await bus.topology.declare_hooks()
    return Queue(bus)


async def test_a_pull_takes_what_is_there_and_no_more_than_its_batch(queue: Queue) -> None:
    await queue.add(3)
    assert [len(await queue.pull(2)), len(await queue.pull(2)), len(await queue.pull(2))] == [2, 1, 0]


async def test_a_pull_that_waits_gets_the_next_message(queue: Queue) -> None:
    waiting = asyncio.ensure_future(queue.pull(1, expires_s=10.0))
    await asyncio.sleep(0.05)
    await queue.add()
    assert len(await waiting) == 1


async def test_a_pull_that_waited_in_vain_brings_nothing(queue: Queue) -> None:
    assert await queue.pull(1, expires_s=0.2) == []


async def test_a_consumer_that_is_not_there_is_unreachable(queue: Queue) -> None:
    with pytest.raises(Unreachable, match="nothing"):
        await queue.pull(1, answer_s=0.2, consumer="nothing")


async def test_a_cancelled_pull_hands_over_the_messages_it_had(queue: Queue) -> None:
    await queue.add()
    waiting = asyncio.ensure_future(queue.pull(2, expires_s=10.0))
    await asyncio.sleep(0.2)
    waiting.cancel()
    await asyncio.wait({waiting})
    await eventually(lambda: len(queue.late) == 1, within_s=10)
    await queue.add()
    assert len(await queue.pull(1, expires_s=5.0)) == 1, "the cancelled pull still takes messages"
