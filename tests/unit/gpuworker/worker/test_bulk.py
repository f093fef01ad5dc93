"""Entries of streams that are far ahead: who gives way to whom, and when a wait ends."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuworker.worker.bulk import _RECENT_S, Bulk
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.stream import NoListeners, Stream

SECOND = 48_000
WITHIN_S = 30.0


class Appends:
    """Tasks that append one entry each, in `bulk`; `order` is whose began, in order."""

    def __init__(self) -> None:
        self.bulk = Bulk()
        self.order: list[str] = []
        self.may_end = asyncio.Event()

    def start(self, tenant: str, ahead_s: float = 600.0) -> tuple[asyncio.Task[None], Stream]:
        entry_size = EntrySize(24_000, 2)
        entry_size.appended(round(ahead_s * SECOND), time.monotonic())
        stream = Stream(1, entry_size, lambda handle, size: None)
        return asyncio.create_task(self._append(tenant, stream, entry_size)), stream

    async def _append(self, tenant: str, stream: Stream, entry_size: EntrySize) -> None:
        async with self.bulk.turn(tenant, stream, entry_size):
            self.order.append(tenant)
            await self.may_end.wait()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuworker.worker.bulk._PAUSE", 1e12)
    monkeypatch.setattr("gpuworker.worker.bulk._MAX_PAUSE_S", 1e6)


@pytest.mark.usefixtures("long_pause")
async def test_a_tenant_alone_is_not_slowed_down() -> None:
    appends = Appends()
    appends.bulk.needed_at["a"] = time.monotonic()
    appends.may_end.set()
    tasks = [appends.start("a")[0] for _ in range(10)]
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*tasks)


@pytest.mark.usefixtures("long_pause")
async def test_a_pause_follows_each_entry_while_another_tenant_needs_the_worker() -> None:
    appends = Appends()
    appends.bulk.needed_at["b"] = time.monotonic()
    appends.may_end.set()
    tasks = [appends.start("a")[0] for _ in range(3)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await settle()
    assert [task.done() for task in tasks] == [True, True, False], "the jobs themselves go on, the third one waits"
    tasks[2].cancel()


async def test_few_entries_are_in_flight_and_tenants_have_turns_in_turn() -> None:
    appends = Appends()
    tasks = [appends.start(tenant)[0] for tenant in "aaaab"]
    await settle()
    assert appends.order == ["a", "a"]
    appends.may_end.set()
    await asyncio.gather(*tasks)
    assert appends.order.index("b") == 2


async def test_an_entry_is_appended_without_a_turn_once_its_listener_needs_it() -> None:
    appends = Appends()
    tasks = [appends.start("a")[0] for _ in range(2)]
    hurried, _ = appends.start("a", ahead_s=2.05)
    async with asyncio.timeout(WITHIN_S):
        while len(appends.order) < 3:
            await asyncio.sleep(0.01)
    appends.may_end.set()
    await asyncio.gather(*tasks, hurried)
    # Its turn was given up: both are free.
    appends.may_end.clear()
    more = [appends.start("a")[0] for _ in range(2)]
    await settle()
    assert len(appends.order) == 5
    appends.may_end.set()
    await asyncio.gather(*more)


@pytest.mark.parametrize("how", ["interrupted", "cancelled"])
async def test_a_wait_that_is_ended_leaves_no_turn_behind(how: str) -> None:
    appends = Appends()
    tasks = [appends.start("a")[0] for _ in range(2)]
    ended = [appends.start("b") for _ in range(2)]  # as many as there are turns
    await settle()
    for task, stream in ended:
        if how == "interrupted":
            stream.interrupt(NoListeners("left"))
        else:
            task.cancel()
        with pytest.raises(NoListeners if how == "interrupted" else asyncio.CancelledError):
            await task
    last, _ = appends.start("c")
    appends.may_end.set()
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*tasks, last)
    assert appends.order == ["a", "a", "c"]
    appends.may_end.clear()
    more = [appends.start("d")[0] for _ in range(2)]
    await settle()
    assert appends.order[3:] == ["d", "d"], "both turns are free"
    appends.may_end.set()
    await asyncio.gather(*more)


@given(st.dictionaries(st.sampled_from("abc"), st.floats(0, 2 * _RECENT_S)))
def test_only_tenants_that_needed_the_worker_lately_count(ago_s: dict[str, float]) -> None:
    bulk = Bulk()
    bulk.needed_at = {tenant: 100.0 - seconds for tenant, seconds in ago_s.items()}
    recent = {tenant for tenant, at in bulk.needed_at.items() if 100.0 - at < _RECENT_S}
    for tenant in "abc":
        assert bulk.has_others(tenant, 100.0) == bool(recent - {tenant})
    assert set(bulk.needed_at) == recent, "the others are forgotten"
