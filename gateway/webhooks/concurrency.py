"""Concurrency limit per webhook host, so that one slow endpoint cannot occupy every slot of a gateway."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

#: Deliveries in progress to one host and port, from one gateway.
MAX_PER_HOST: Final = 16
#: A host whose oldest delivery is older than this many seconds counts as slow.
_SLOW_AFTER_S: Final = 1.0
_BUSY_WAIT_S: Final = 0.25
_SLOW_WAIT_S: Final = 5.0


class HostLimit:
    """Counts the deliveries in progress, by host and port (`example.org:8080`)."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now`: seconds of a monotonic clock."""
        self._now = now
        #: When each delivery in progress began, by host; oldest first.
        self._began: dict[str, list[float]] = {}

    def wait_s(self, host: str) -> float | None:
        """Seconds to wait before the next attempt to deliver to `host`, longer if it is slow; None: deliver now."""
        began = self._began.get(host, [])
        if len(began) < MAX_PER_HOST:
            return None
        return _SLOW_WAIT_S if self._now() - began[0] > _SLOW_AFTER_S else _BUSY_WAIT_S

    @contextmanager
    def delivering(self, host: str) -> Iterator[None]:
        """Count one delivery for the length of the block."""
        began_at = self._now()
        began = self._began.setdefault(host, [])
        began.append(began_at)
        try:
            yield
        finally:
            began.remove(began_at)
            if not began:
                del self._began[host]
