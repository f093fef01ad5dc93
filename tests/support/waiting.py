"""Waiting for what emits no event of its own, always with a bound."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


async def eventually(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Return once `condition` is truthy. Raises TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


def gone(pid: int) -> bool:
    """Whether no process of this id runs; a zombie that is not reaped yet does not."""
    return _state(Path(f"/proc/{pid}")) in "ZX"


def freeze(pid: int, within_s: float = 20.0) -> None:
    """SIGSTOP, and return when every thread stands still: one may answer a last question on another processor."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + within_s
    while any(_state(task) not in "TZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.001)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
