"""Room in the store: shares that cannot fill it between two measurements, and waits that an interruption ends."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from bus.errors import Fenced, Full
from bus.jobs.claim import JobLease
from bus.jobs.retention import BLOCKS_RESUME_BELOW, BLOCKS_STOP_ABOVE
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.run import Run
from gpuworker.worker.storage import LARGEST_ENTRY_BYTES, StorageGate, StorageWait
from gpuworker.worker.stream import DeadlinePassed, HandBack, Interruption, LeaseRevoked, NoListeners, Stream
from gpuworker.worker.supervise import Supervisor

LIMIT = 64 << 20
WITHIN_S = 30.0


def new_stream() -> Stream:
    return Stream(1, EntrySize(24_000, 2), lambda handle, size: None)


def new_gate(level: float | None = None, num_workers: int = 1) -> StorageGate:
    """A gate that has measured `level`, if it is given. No task of it runs."""
    gate = StorageGate(Mock(), lambda: True, lambda: num_workers)
    if level is not None:
        measured(gate, level)
    return gate


def measured(gate: StorageGate, level: float) -> None:
    gate.measured(int(level * LIMIT), LIMIT)


def new_wait(gate: StorageGate, stream: Stream, spare_s: float = 0.0) -> tuple[StorageWait, AsyncMock]:
    lease, entry_size = AsyncMock(JobLease), Mock(EntrySize)
    entry_size.spare_s.return_value = spare_s
    return StorageWait(gate, "t", stream, entry_size, lease), lease


def test_a_stream_without_a_limit_never_stops_a_block() -> None:
    gate = new_gate()
    gate.measured(1 << 45, -1)
    assert gate.is_open(is_bulk=True)
    assert gate.room.allowance > 1 << 50


def test_blocks_stop_at_95_percent_and_go_on_only_when_some_room_is_there() -> None:
    gate = new_gate()
    for level, is_open in (
        (0.5, True),
        (BLOCKS_STOP_ABOVE - 0.001, True),
        (BLOCKS_STOP_ABOVE, False),
        (1.0, False),
        (BLOCKS_RESUME_BELOW + 0.001, False),
        (BLOCKS_RESUME_BELOW - 0.001, True),
        (BLOCKS_RESUME_BELOW + 0.001, True),
    ):
        measured(gate, level)
        assert gate.is_open(is_bulk=False) == is_open, level
        assert gate.room.is_closed != is_open, level


async def next_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_wait_ends_with_a_measurement_that_finds_room_and_is_no_silence_of_the_engine() -> None:
    gate, stream = new_gate(0.96), new_stream()
    wait, lease = new_wait(gate, stream)
    append = AsyncMock(return_value=None)
    waiting = asyncio.create_task(wait.append(append, is_end=False))
    await next_turns()
    assert stream.waits_for_room
    assert stream.silent_s == 0.0
    measured(gate, 0.96)
    await next_turns()
    append.assert_not_awaited()
    measured(gate, 0.5)
    async with asyncio.timeout(WITHIN_S):
        assert await waiting is None
    append.assert_awaited_once()
    assert not stream.waits_for_room
    lease.show_waiting.assert_not_awaited()  # it was too short to be shown


async def test_a_long_wait_is_shown_in_the_lease_once_and_taken_back_after_the_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gpuworker.worker.storage._SHOW_AFTER_S", 0.01)
    monkeypatch.setattr("gpuworker.worker.storage._CHECK_LEASE_S", 0.01)
    gate, stream = new_gate(0.96), new_stream()
    wait, lease = new_wait(gate, stream)
    order: list[object] = []
    lease.show_waiting.side_effect = order.append

    async def append() -> None:
        order.append("append")

    waiting = asyncio.create_task(wait.append(append, is_end=False))
    async with asyncio.timeout(WITHIN_S):
        while lease.ensure_held.await_count < 2:
            await asyncio.sleep(0.005)
        measured(gate, 0.5)
        await waiting
    assert order == ["storage", "append", ""]


@pytest.mark.parametrize(
    "interruption", [DeadlinePassed("late"), NoListeners("left"), HandBack("draining"), LeaseRevoked()], ids=repr
)
async def test_every_interruption_ends_a_wait_at_once(interruption: Interruption) -> None:
    stream = new_stream()
    wait, _ = new_wait(new_gate(0.96), stream)
    waiting = asyncio.create_task(wait.append(AsyncMock(), is_end=False))
    await next_turns()
    stream.interrupt(interruption)
    with pytest.raises(type(interruption)):
        await waiting
    assert not stream.waits_for_room


async def test_a_job_that_waits_finds_that_its_lease_was_taken_although_no_message_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gpuworker.worker.storage._SHOW_AFTER_S", 0.01)
    monkeypatch.setattr("gpuworker.worker.storage._CHECK_LEASE_S", 0.01)
    wait, lease = new_wait(new_gate(0.96), new_stream())
    lease.ensure_held.side_effect = Fenced("taken")
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(Fenced):
            await wait.append(AsyncMock(), is_end=False)


async def test_a_refused_append_is_repeated_after_a_measurement_that_finds_room() -> None:
    gate, stream = new_gate(0.5), new_stream()
    wait, _ = new_wait(gate, stream)
    append = AsyncMock(side_effect=[Full(10077, "full"), None])
    waiting = asyncio.create_task(wait.append(append, is_end=False))
    await next_turns()
    assert append.await_count == 1
    assert not gate.is_open(is_bulk=False), "the other jobs of this worker wait too"
    measured(gate, BLOCKS_RESUME_BELOW + 0.001)
    await next_turns()
    assert append.await_count == 1
    measured(gate, 0.5)
    await waiting
    assert append.await_count == 2


async def test_an_end_waits_for_no_level_and_is_repeated_after_each_measurement() -> None:
    gate, stream = new_gate(0.99), new_stream()
    wait, lease = new_wait(gate, stream)
    append = AsyncMock(side_effect=[Full(10077, "full"), Full(10077, "full"), "done"])
    waiting = asyncio.create_task(wait.append(append, is_end=True))
    await next_turns()
    assert append.await_count == 1
    for level, tries in ((1.0, 2), (0.999, 3)):
        measured(gate, level)
        await next_turns()
        assert append.await_count == tries
    assert await waiting == "done"
    lease.show_waiting.assert_not_awaited()  # nothing may follow the end


async def test_jobs_that_wait_append_in_the_order_in_which_their_waits_began() -> None:
    gate, order = new_gate(0.96), []

    def append_of(number: int) -> Any:
        async def append() -> None:
            order.append(number)
            gate.charge(LARGEST_ENTRY_BYTES)

        return append

    waits = [new_wait(gate, new_stream())[0] for _ in range(4)]
    waiting = [asyncio.create_task(wait.append(append_of(k), is_end=False)) for k, wait in enumerate(waits)]
    await next_turns()
    gate.measured(int(BLOCKS_RESUME_BELOW * LIMIT) - 1, LIMIT)
    gate.room.allowance = 2 * LARGEST_ENTRY_BYTES
    await next_turns()
    assert order == [0, 1]
    measured(gate, 0.5)
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3]


async def test_a_worker_measures_while_jobs_run_and_sends_nothing_while_none_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gpuworker.worker.storage._MEASURE_EVERY_S", 0.01)
    info = AsyncMock(return_value={"state": {"bytes": 0}, "config": {"max_bytes": LIMIT}})
    bus = SimpleNamespace(js=SimpleNamespace(info=info), subjects=SimpleNamespace(replies_stream="R"))
    busy: list[int] = []
    gate = StorageGate(bus, lambda: bool(busy), lambda: 1)  # type: ignore[arg-type]
    running = asyncio.create_task(gate.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            while not info.await_count:
                await asyncio.sleep(0)
            full_share = gate.room.allowance
            while gate.room.allowance == full_share:
                await asyncio.sleep(0.005)
            assert LARGEST_ENTRY_BYTES <= gate.room.allowance < LIMIT // 100, "it may begin at once, with little"
            await asyncio.sleep(0.05)
            assert info.await_count == 1
            busy.append(1)
            while info.await_count < 3:
                await asyncio.sleep(0.005)
        assert gate.room.allowance == full_share
    finally:
        running.cancel()


async def test_no_job_stalls_while_the_gate_is_closed_not_even_one_whose_batch_waits_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gpuworker.worker.supervise._CHECK_S", 0.01)
    settings = SimpleNamespace(ack_wait_s=60.0)
    bus = SimpleNamespace(settings=settings, clock=SimpleNamespace(now=lambda: 0.0))
    run: Any = Mock(Run)
    run.deadline = (1.0, "")
    run.silent_s = 0.0
    gate = new_gate(0.5)
    supervisor = Supervisor(bus, {"j": run}, Mock(EngineHost), gate, 30.0)  # type: ignore[arg-type,dict-item]
    supervising = asyncio.create_task(supervisor.run())
    try:
        measured(gate, 0.96)
        async with asyncio.timeout(WITHIN_S):
            while not run.restart_silence.called:
                await asyncio.sleep(0.005)
    finally:
        supervising.cancel()
