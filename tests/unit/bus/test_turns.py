"""Turns at a bounded thing: who is next, and what cancelling leaves."""

import asyncio

import pytest

from bus.turns import Turns


class Served:
    """Tasks that take turns and stay until they are released; `order` is who got one, in order."""

    def __init__(self, num_turns: int) -> None:
        self.turns = Turns(num_turns)
        self.order: list[str] = []
        self._releases: list[asyncio.Event] = []

    def ask(self, owner: str, weight: float = 1.0) -> asyncio.Task[None]:
        return asyncio.create_task(self._have(owner, weight))

    async def _have(self, owner: str, weight: float) -> None:
        async with self.turns.turn(owner, weight):
            self.order.append(owner)
            release = asyncio.Event()
            self._releases.append(release)
            await release.wait()

    async def release(self) -> None:
        """End the oldest turn that runs."""
        self._releases.pop(0).set()
        await settle()

    async def release_all(self) -> None:
        while self._releases:
            await self.release()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_owner_may_have_all_turns() -> None:
    served = Served(3)
    for _ in range(4):
        served.ask("a")
    await settle()
    assert served.order == ["a", "a", "a"]
    assert served.turns.num_waiting("a") == 1
    await served.release_all()
    assert served.order == ["a"] * 4


async def test_an_owner_without_turns_comes_before_one_that_waits_longer() -> None:
    served = Served(2)
    for _ in range(5):
        served.ask("a")
    await settle()
    served.ask("b")
    await settle()
    await served.release()
    assert served.order == ["a", "a", "b"]
    await served.release_all()


async def test_owners_alternate_at_a_single_turn() -> None:
    served = Served(1)
    for owner in "aaabbb":
        served.ask(owner)
    await settle()
    await served.release_all()
    assert "".join(served.order) == "ababab"


async def test_turns_follow_weights() -> None:
    served = Served(6)
    for _ in range(12):
        served.ask("light", 1.0)
        served.ask("heavy", 2.0)
    await settle()
    for _ in range(12):
        await served.release()
    assert served.order[6:18].count("heavy") in {7, 8, 9}
    await served.release_all()


async def test_a_cancelled_waiter_gets_no_turn() -> None:
    served = Served(1)
    served.ask("a")
    await settle()
    cancelled = served.ask("b")
    served.ask("c")
    await settle()
    cancelled.cancel()
    await settle()
    await served.release()
    assert served.order == ["a", "c"]
    await served.release_all()


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    served = Served(1)
    first = served.ask("a")
    await settle()
    second = served.ask("b")
    served.ask("c")
    await settle()
    first.cancel()
    await asyncio.sleep(0)  # the turn goes to `b`, whose task has not run yet
    second.cancel()
    await settle()
    assert served.order[-1] == "c"
    await served.release()


async def test_a_waiter_cancelled_before_the_turn_ends_is_passed_over() -> None:
    served = Served(1)
    first = served.ask("a")
    await settle()
    second = served.ask("b")
    served.ask("b")
    await settle()
    second.cancel()
    first.cancel()
    await settle()
    assert served.order == ["a", "b"]
    assert served.turns.num_waiting("b") == 0


async def test_a_block_that_raises_ends_its_turn() -> None:
    turns = Turns(1)
    with pytest.raises(RuntimeError, match="inside"):
        async with turns.turn("a"):
            raise RuntimeError("inside")
    async with asyncio.timeout(10), turns.turn("b"):
        pass
