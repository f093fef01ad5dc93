"""Those who are told: how many tries to reach one are under way, so that one who hangs does not hold all our room."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

#: Of one host and port, from one gateway.
MOST_AT_ONCE: Final = 16
_SLOW_AFTER_S: Final = 1.0
_SOON_S: Final = 0.25
_LATER_S: Final = 5.0


class Receivers:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: When each try began that is under way, by host and port; oldest first.
        self._began: dict[str, list[float]] = {}

    def wait_s(self, receiver: str) -> float | None:
        """How long one more should wait and ask again; None: it need not. Longer where the oldest hangs."""
        began = self._began.get(receiver, [])
        if len(began) < MOST_AT_ONCE:
            return None
        return _LATER_S if self._now() - began[0] > _SLOW_AFTER_S else _SOON_S

    @contextmanager
    def telling(self, receiver: str) -> Iterator[None]:
        began_at = self._now()
        began = self._began.setdefault(receiver, [])
        began.append(began_at)
        try:
            yield
        finally:
            began.remove(began_at)
            if not began:
                del self._began[receiver]
