"""Background tasks end with their block, whoever ends first and however."""

import asyncio

import pytest

from bus.errors import Unreachable
from bus.lifetime import background_tasks, fail_when_closed


async def run_until_cancelled(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("task")


async def test_tasks_are_cancelled_and_awaited_when_the_block_ends() -> None:
    ended: list[str] = []
    async with background_tasks() as tasks:
        tasks.create_task(run_until_cancelled(ended))
        await asyncio.sleep(0)
    assert ended == ["task"]


async def test_a_failing_task_cancels_the_block_and_the_others() -> None:
    ended: list[str] = []
    closed = asyncio.Event()
    with pytest.raises(ExceptionGroup) as raised:
        async with background_tasks() as tasks:
            tasks.create_task(run_until_cancelled(ended))
            tasks.create_task(fail_when_closed(closed))
            await asyncio.sleep(0)
            closed.set()
            await asyncio.Event().wait()
    assert raised.group_contains(Unreachable)
    assert len(raised.value.exceptions) == 1
    assert ended == ["task"]


async def test_an_exception_of_the_block_leaves_in_a_group() -> None:
    ended: list[str] = []
    with pytest.raises(ExceptionGroup) as raised:
        async with background_tasks() as tasks:
            tasks.create_task(run_until_cancelled(ended))
            await asyncio.sleep(0)
            raise ValueError("of the block")
    assert [str(error) for error in raised.value.exceptions] == ["of the block"]
    assert ended == ["task"]


async def test_cancelling_the_block_leaves_no_task() -> None:
    ended: list[str] = []
    is_running = asyncio.Event()

    async def block() -> None:
        async with background_tasks() as tasks:
            tasks.create_task(run_until_cancelled(ended))
            is_running.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(block())
    await is_running.wait()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["task"]
