"""Bounds of the webhook tries in progress: of one host, so that a slow one holds few of them, and of each tenant.

Host names cost nothing, so the bound of a host alone would not keep one tenant from taking every place.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from gateway.limits.pools import Pool

#: Tries in progress to one host and port, from one gateway.
MAX_PER_HOST: Final = 16
#: Tries in progress from one gateway.
MAX_TRIES: Final = 128
#: A host, or a tenant, whose oldest try is older than this many seconds counts as slow.
_SLOW_AFTER_S: Final = 1.0
_BUSY_WAIT_S: Final = 0.25
_SLOW_WAIT_S: Final = 5.0


class _Tries:
    """When each try in progress began, by host or tenant; oldest first."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began: dict[str, list[float]] = {}

    def count(self, name: str) -> int:
        return len(self._began.get(name, ()))

    def wait_s(self, name: str) -> float:
        """Seconds to wait before the next try."""
        began = self._began.get(name)
        return _SLOW_WAIT_S if began and self._now() - began[0] > _SLOW_AFTER_S else _BUSY_WAIT_S

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        began_at = self._now()
        began = self._began.setdefault(name, [])
        began.append(began_at)
        try:
            yield
        finally:
            began.remove(began_at)
            if not began:
                del self._began[name]


class HostLimit:
    """Counts the tries in progress, by host and port (`example.org:8080`)."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now`: seconds of a monotonic clock."""
        self._tries = _Tries(now)

    def wait_s(self, host: str) -> float | None:
        """Seconds to wait before the next try at `host`, longer if it is slow; None: try now."""
        return None if self._tries.count(host) < MAX_PER_HOST else self._tries.wait_s(host)

    @contextmanager
    def trying(self, host: str) -> Iterator[None]:
        """Count one try for the length of the block."""
        with self._tries.one(host):
            yield


class TenantLimit:
    """Counts the tries in progress, of which each tenant has its share."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now`: seconds of a monotonic clock."""
        self._pool = Pool("webhook_tries", "webhook tries in progress", MAX_TRIES)
        self._tries = _Tries(now)

    def wait_s(self, owner: str) -> float | None:
        """Seconds to wait before the next try of `owner`, longer if its tries are slow; None: try now.

        A wait is logged as a refusal.
        """
        refusal = self._pool.refusal(owner, 1)
        if refusal is None:
            return None
        self._pool.refused(owner, refusal)
        return self._tries.wait_s(owner)

    @contextmanager
    def trying(self, owner: str) -> Iterator[None]:
        """Count one try for the length of the block."""
        self._pool.add(owner, 1)
        try:
            with self._tries.one(owner):
                yield
        finally:
            self._pool.give_back(owner, 1)
