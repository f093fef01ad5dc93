"""Memory shared by the clients of a gateway: what fits, what waits, what is refused and how the refusal reads."""

import asyncio

import pytest

from bus.errors import Overloaded, TooMany
from bus.process import trim_memory
from gateway.limits.buffers import Buffers

MIB = 1 << 20


def test_what_a_block_held_is_given_back_at_its_end() -> None:
    buffers = Buffers(9 * MIB)
    with buffers.hold("tenant-a") as buffer:
        assert buffer.try_grow(4 * MIB)
        buffer.shrink(MIB)
        assert buffers.total_bytes == 3 * MIB
    assert buffers.total_bytes == 0


def test_one_tenant_leaves_room_for_another() -> None:
    buffers = Buffers(9 * MIB)
    with buffers.hold("tenant-a") as flood, buffers.hold("tenant-b") as other:
        while flood.try_grow(MIB >> 4):
            pass
        assert flood.num_bytes == 8 * MIB
        assert other.try_grow(MIB >> 2)


async def test_a_share_that_is_used_up_is_named() -> None:
    buffers = Buffers(9 * MIB, wait_s=0.01)
    with buffers.hold("tenant-a") as buffer:
        await buffer.grow(8 * MIB)
        with pytest.raises(
            TooMany, match=r"buffer_bytes: tenant a holds 8388608 and cannot have 1048576 more"
        ) as caught:
            await buffer.grow(MIB)
        assert buffer.num_bytes == 0
    assert (caught.value.limit, caught.value.scope, caught.value.allowed) == ("buffer_bytes", "tenant", 8 * MIB)


async def test_a_full_pool_is_no_fault_of_the_caller() -> None:
    buffers = Buffers(MIB, wait_s=0.01)
    with buffers.hold("tenant-a") as flood, buffers.hold("address-::1") as other:
        await flood.grow(MIB)
        with pytest.raises(Overloaded, match="this gateway has 1048576 bytes"):
            await other.grow(1)


async def test_what_waits_goes_on_once_there_is_room() -> None:
    buffers = Buffers(9 * MIB)
    with buffers.hold("tenant-a") as first, buffers.hold("tenant-a") as second:
        await first.grow(8 * MIB)
        waiting = asyncio.create_task(second.grow(MIB))
        await asyncio.sleep(0)
        assert not waiting.done()
        first.shrink(2 * MIB)
        await waiting
        assert second.num_bytes == MIB
    assert buffers.total_bytes == 0


def test_what_is_in_memory_already_is_counted_whether_it_fits_or_not() -> None:
    buffers = Buffers(9 * MIB)
    with buffers.hold("tenant-a") as buffer:
        assert [buffer.add(8 * MIB), buffer.add(MIB)] == [True, False]
        assert (buffer.num_bytes, buffers.total_bytes) == (9 * MIB, 9 * MIB)
    assert buffers.total_bytes == 0


async def test_of_clients_that_wait_for_each_other_some_are_refused_and_the_rest_goes_on() -> None:
    buffers = Buffers(9 * MIB, wait_s=0.05)

    async def collect() -> bool:
        with buffers.hold("tenant-a") as buffer:
            try:
                for _ in range(4):
                    await buffer.grow(MIB)
                    await asyncio.sleep(0)
            except TooMany:
                return False
        return True

    complete = await asyncio.gather(*(collect() for _ in range(8)))
    assert sorted(set(complete)) == [False, True]
    assert buffers.total_bytes == 0


async def test_a_wait_that_is_cancelled_takes_nothing_with_it() -> None:
    buffers = Buffers(9 * MIB)
    with buffers.hold("tenant-a") as first, buffers.hold("tenant-a") as second:
        await first.grow(8 * MIB)
        waiting = [asyncio.create_task(second.grow(MIB)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # before it is granted
        await asyncio.wait(waiting[:1])
        first.shrink(8 * MIB)
        waiting[1].cancel()  # after it was granted, before it knows
        await asyncio.wait(waiting[1:])
        assert buffers.total_bytes == 0


async def test_free_memory_is_returned_to_the_system_once_a_crowd_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    num_trims = 0
    is_trimmed = asyncio.Event()

    def trim() -> None:
        nonlocal num_trims
        num_trims += 1
        is_trimmed.set()

    monkeypatch.setattr("gateway.limits.buffers.trim_memory", trim)
    buffers = Buffers(90 * MIB)
    with buffers.hold("tenant-a") as few:
        await few.grow(20 * MIB)
    with buffers.hold("tenant-a") as crowd, buffers.hold("tenant-b") as rest:
        await crowd.grow(70 * MIB)
        await rest.grow(MIB)
        crowd.shrink(60 * MIB)
        assert not is_trimmed.is_set()
        crowd.shrink(10 * MIB)
        async with asyncio.timeout(30):
            await is_trimmed.wait()
    assert num_trims == 1


def test_trimming_is_harmless() -> None:
    trim_memory()
