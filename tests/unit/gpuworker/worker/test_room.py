"""Room for whom, below which level of the store, and whose turn it is at it."""

import asyncio
from unittest.mock import AsyncMock, Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.jobs.claim import JobLease
from bus.jobs.retention import BLOCKS_STOP_ABOVE, BULK_RESUMES_BELOW, BULK_STOPS_ABOVE
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.storage import LARGEST_ENTRY_BYTES, StorageGate, StorageWait, in_turns, share_bytes
from gpuworker.worker.stream import Stream

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


@given(
    limit=st.integers(1 << 20, 1 << 40),
    level=st.floats(0, 1.2),
    num_workers=st.integers(1, 500),
    stop_above=st.sampled_from([BLOCKS_STOP_ABOVE, BULK_STOPS_ABOVE]),
)
def test_what_all_workers_append_before_they_measure_again_ends_below_the_level(
    limit: int, level: float, num_workers: int, stop_above: float
) -> None:
    """But for one entry of each worker, and for the entries that were in flight when it measured."""
    stored = int(level * limit)
    share = share_bytes(stored, limit, num_workers, stop_above)
    if stored >= int(stop_above * limit):
        assert share == 0
    else:
        assert share >= LARGEST_ENTRY_BYTES
        assert stored + num_workers * share <= max(stop_above * limit, stored + num_workers * LARGEST_ENTRY_BYTES)


def test_the_share_is_that_of_one_worker_among_all() -> None:
    alone, among = new_gate(0.5), new_gate(0.5, num_workers=10)
    assert alone.room.allowance == pytest.approx(0.45 * LIMIT / 2, rel=1e-3)
    assert among.room.allowance == pytest.approx(0.45 * LIMIT / 20, rel=1e-3)


def test_streams_that_are_far_ahead_stop_at_90_percent_and_leave_the_rest_to_the_others() -> None:
    gate = new_gate()
    for level, is_open in (
        (BULK_STOPS_ABOVE - 0.001, True),
        (BULK_STOPS_ABOVE, False),
        (BULK_RESUMES_BELOW + 0.001, False),
        (BULK_RESUMES_BELOW - 0.001, True),
    ):
        measured(gate, level)
        assert gate.is_open(is_bulk=True) == is_open, level
        assert gate.is_closed != is_open, level
        assert gate.is_open(is_bulk=False)
    gate.charge(gate.bulk_room.allowance)
    assert not gate.is_open(is_bulk=True)
    assert gate.room.allowance > 0.02 * LIMIT, "whatever they append between two measurements"


async def test_a_stream_that_waits_far_ahead_goes_on_once_its_listener_needs_audio() -> None:
    gate, stream, entry_size = new_gate(0.92), new_stream(), Mock(EntrySize)
    entry_size.spare_s.return_value = 1.0
    wait = StorageWait(gate, "t", stream, entry_size, AsyncMock(JobLease))
    waiting = asyncio.create_task(wait.append(AsyncMock(return_value=None), is_end=False))
    await asyncio.sleep(0)
    measured(gate, 0.92)
    await asyncio.sleep(0)
    assert stream.waits_for_room
    entry_size.spare_s.return_value = 0.0
    measured(gate, 0.92)
    async with asyncio.timeout(WITHIN_S):
        await waiting


async def test_tenants_that_wait_have_the_room_in_turn() -> None:
    gate, order = new_gate(0.96), list[str]()
    entry_size = Mock(EntrySize)
    entry_size.spare_s.return_value = 0.0

    async def entry(tenant: str) -> None:
        async def append() -> None:
            order.append(tenant)
            gate.charge(LARGEST_ENTRY_BYTES)

        await StorageWait(gate, tenant, new_stream(), entry_size, AsyncMock(JobLease)).append(append, is_end=False)

    waiting = [asyncio.create_task(entry(tenant)) for tenant in "aaaaabbc"]
    for _ in range(8):  # each measurement has room for one entry
        await asyncio.sleep(0)
        gate.measured(int(BLOCKS_STOP_ABOVE * LIMIT) - 1 - LARGEST_ENTRY_BYTES // 50, LIMIT)
        gate.room.is_closed = False
        gate.room.allowance = 1
        for _ in range(5):
            await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert "".join(order) == "abcabaaa"


def test_the_tenant_whose_turn_is_longest_ago_comes_first_and_each_ones_own_keep_their_order() -> None:
    streams = {name: new_stream() for name in ("a1", "a2", "a3", "b1", "c1")}
    order = in_turns({stream: name[0] for name, stream in streams.items()}, {"a": 7, "b": 3})
    assert [name for stream in order for name in streams if streams[name] is stream] == ["c1", "b1", "a1", "a2", "a3"]
