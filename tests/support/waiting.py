"""Waiting for what emits no event of its own, always with a bound."""

import asyncio
from collections.abc import Callable
from pathlib import Path


async def eventually(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Return once `condition` is truthy. Raises TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


def gone(pid: int) -> bool:
    """Whether no process of this id runs; a zombie that nobody has reaped yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"
