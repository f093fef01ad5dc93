"""A client that leaves a batch ends its group of tasks; that is no failure of the gateway."""

import asyncio

import pytest

from gateway.api.batch import client_leaves


async def test_a_connection_that_is_lost_comes_alone_out_of_the_group() -> None:
    with pytest.raises(ConnectionResetError, match="hung up"):
        async with client_leaves(), asyncio.TaskGroup():
            raise ConnectionResetError("Cannot write to closing transport")


async def test_another_error_beside_it_is_not_hidden() -> None:
    async def fail() -> None:
        raise ValueError("a defect")

    with pytest.raises(ExceptionGroup) as found:
        async with client_leaves(), asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            await asyncio.sleep(0)
            raise ConnectionResetError("Cannot write to closing transport")
    assert found.group_contains(ValueError, match="a defect")
