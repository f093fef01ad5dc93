"""The requests in progress of one gateway process, so that it can stop without cutting them off."""

import asyncio
from typing import Any


class Requests:
    """The tasks that answer requests, HTTP and NATS alike; each adds itself to `tasks` and discards itself."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        #: Set once this process is to stop: open-ended responses end soon, new work is refused by /readyz.
        self.stopping = asyncio.Event()

    def __len__(self) -> int:
        return len(self.tasks)

    async def finished(self) -> None:
        """Wait until no request is in progress."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    def cancel(self) -> None:
        """Cancel every request in progress."""
        for task in list(self.tasks):
            task.cancel()
