"""Tees a response body into the encoded cache, so that an identical request is served without encoding."""

from collections.abc import Callable, Hashable


class WriteBudget:
    """Bytes that the bodies being written may hold together."""

    def __init__(self, max_bytes: int) -> None:
        self._left_bytes = max_bytes

    def reserve(self, num_bytes: int) -> bool:
        """False, and nothing reserved, if fewer bytes are left."""
        if num_bytes > self._left_bytes:
            return False
        self._left_bytes -= num_bytes
        return True

    def release(self, num_bytes: int) -> None:
        """Return reserved bytes."""
        self._left_bytes += num_bytes


class CacheWriter:
    """One body that is being collected. Gives up, without an error, where the budget does not suffice."""

    def __init__(self, budget: WriteBudget, put: Callable[[Hashable, bytes], object]) -> None:
        """`put(key, data)` caches a complete body."""
        self._budget = budget
        self._put = put
        self._parts: list[bytes] | None = []
        self.num_bytes = 0

    def add(self, data: bytes) -> None:
        """Collect the next piece."""
        if self._parts is None:
            return
        if self._budget.reserve(len(data)):
            self._parts.append(data)
            self.num_bytes += len(data)
        else:
            self.drop()

    def drop(self) -> None:
        """Free the collected pieces, and collect no more. Idempotent."""
        self._budget.release(self.num_bytes)
        self._parts = None
        self.num_bytes = 0

    def save(self, key: Hashable) -> None:
        """Cache the body, which is complete, under `key`."""
        if self._parts is not None:
            self._put(key, b"".join(self._parts))
