"""The requests in progress of one gateway process, so that it can stop without cutting them off."""

import asyncio
from typing import Any


class Requests:
    """Tracks the tasks that answer requests, HTTP and NATS alike."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Set once this process is to stop: open-ended responses end soon, new work is refused by /readyz.
        self.stopping = asyncio.Event()
        #: Set once it is stopping and no request is in progress.
        self.idle = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tasks)

    def enter(self, task: asyncio.Task[Any]) -> None:
        """Count `task` as a request in progress."""
        self._tasks.add(task)

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Count `task` no longer."""
        self._tasks.discard(task)
        if self.stopping.is_set() and not self._tasks:
            self.idle.set()

    def stop(self) -> None:
        """Set `stopping`; requests in progress go on, and `idle` is set when the last one has ended."""
        self.stopping.set()
        if not self._tasks:
            self.idle.set()

    def cancel(self) -> None:
        """Cancel every request in progress."""
        for task in list(self._tasks):
            task.cancel()
