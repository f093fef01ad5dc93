"""Lifetime of background tasks: they run beside a block and end with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bus.errors import Unreachable


class _BlockEnded(Exception):
    """Cancels the task group from inside; never leaves this module."""


@contextlib.asynccontextmanager
async def background_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that ends with its block: its tasks are cancelled and awaited when the block is left.

    A plain TaskGroup waits for its tasks instead. A task that fails cancels the block and the other tasks. An exception
    of the block or of a task leaves in an ExceptionGroup. Cancelling the block cancels the tasks; none is left running.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
            raise _BlockEnded
    except BaseExceptionGroup as group:
        _, failures = group.split(_BlockEnded)
        if failures is not None:
            raise failures from None


async def fail_when_closed(closed: asyncio.Event) -> None:
    """A background task that raises Unreachable once the NATS connection is `closed`: it will not reconnect again."""
    await closed.wait()
    raise Unreachable("NATS has closed the connection for good")
