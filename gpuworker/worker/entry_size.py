"""How much audio goes into one log entry. Pure; no I/O, no clock of its own.

The first entry is what came first: first sound soon. After that an entry waits while the listener is ahead, and grows
to about a second or 64 KB, because a message costs far more than the bytes in it. It never waits into the listener's
last `GUARD_S`.
"""

from typing import Final

MAX_ENTRY_BYTES: Final = 64 << 10
MAX_ENTRY_S: Final = 1.0
GUARD_S: Final = 0.15


class EntrySize:
    def __init__(self, rate_hz: int, frame_bytes: int) -> None:
        self._bytes_per_s = rate_hz * frame_bytes
        self._first_at: float | None = None
        self._sent_s = 0.0
        self._target_s = 0.0

    @property
    def is_first(self) -> bool:
        return self._first_at is None

    def appended(self, num_bytes: int, now: float) -> None:
        """An entry of `num_bytes` is in the log."""
        seconds = num_bytes / self._bytes_per_s
        if self._first_at is None:
            self._first_at = now
        self._sent_s += seconds
        self._target_s = min(MAX_ENTRY_S, 2 * seconds)

    def hold_s(self, pending_bytes: int, now: float) -> float:
        """How long to go on gathering before appending `pending_bytes`; 0: append now."""
        if self._first_at is None or pending_bytes >= MAX_ENTRY_BYTES:
            return 0.0
        if pending_bytes / self._bytes_per_s >= self._target_s:
            return 0.0
        slack_s = self._sent_s - (now - self._first_at)
        return max(0.0, slack_s - GUARD_S)
