"""What a task of several jobs tells."""

import asyncio
from typing import Never

import pytest

from bus.errors import NotFound
from gateway.dialects.acestep.answer import _in_order


async def test_of_several_jobs_that_are_not_there_the_first_is_named_however_soon_the_others_are() -> None:
    is_late = asyncio.Event()

    async def first() -> Never:
        await is_late.wait()
        raise NotFound("first")

    async def second() -> Never:
        is_late.set()
        raise NotFound("second")

    with pytest.raises(NotFound, match="first"):
        await _in_order([first(), second()])
