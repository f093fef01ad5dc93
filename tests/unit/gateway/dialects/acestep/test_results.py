"""The results of a task with several jobs."""

import asyncio
from typing import Never

import pytest

from bus.errors import NotFound
from gateway.dialects.acestep.results import gather_in_order


async def test_the_first_missing_job_is_named_although_another_is_found_missing_sooner() -> None:
    is_late = asyncio.Event()

    async def first() -> Never:
        await is_late.wait()
        raise NotFound("first")

    async def second() -> Never:
        is_late.set()
        raise NotFound("second")

    with pytest.raises(NotFound, match="first"):
        await gather_in_order([first(), second()])
