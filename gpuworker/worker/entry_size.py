"""How much audio goes into one log entry. Pure: no I/O, no clock of its own.

The first entry holds the first block alone, for an early start. Later entries gather audio while the listener is ahead,
up to about a second or 64 KiB, because a message costs far more than its bytes. Gathering never eats into the
listener's last `GUARD_S` seconds.
"""

from typing import Final

MAX_ENTRY_BYTES: Final = 64 << 10
MAX_ENTRY_S: Final = 1.0
GUARD_S: Final = 0.15
#: A stream that is further ahead of its listener than this is bulk: others go first, until it is no further than that.
FAR_AHEAD_S: Final = 5.0
NEAR_S: Final = 2.0


class EntrySize:
    """Decides, for one job, when the gathered audio is appended."""

    def __init__(self, rate_hz: int, frame_bytes: int) -> None:
        """`frame_bytes`: bytes of one frame, all channels together."""
        self._bytes_per_s = rate_hz * frame_bytes
        self._first_at: float | None = None
        #: Whether no entry has been appended yet.
        self.is_first = True
        self._sent_s = 0.0
        self._target_s = 0.0

    def appended(self, num_bytes: int, now: float) -> None:
        """An entry of `num_bytes` is in the log. `now`: monotonic seconds."""
        seconds = num_bytes / self._bytes_per_s
        if self._first_at is None:
            self._first_at = now
            self.is_first = False
        self._sent_s += seconds
        self._target_s = min(MAX_ENTRY_S, 2 * seconds)

    def hold_s(self, pending_bytes: int, now: float) -> float:
        """Seconds to go on gathering before appending `pending_bytes`; 0: append now."""
        if self._first_at is None or pending_bytes >= MAX_ENTRY_BYTES:
            return 0.0
        if pending_bytes / self._bytes_per_s >= self._target_s:
            return 0.0
        return max(0.0, self._slack_s(now) - GUARD_S)

    def is_far_ahead(self, now: float) -> bool:
        """Whether the listener has more than `FAR_AHEAD_S` seconds of audio to play."""
        return self._slack_s(now) > FAR_AHEAD_S

    def spare_s(self, now: float) -> float:
        """Seconds for which a stream that is far ahead may wait, until its listener has only `NEAR_S` to play."""
        return max(0.0, self._slack_s(now) - NEAR_S)

    def _slack_s(self, now: float) -> float:
        return self._sent_s - (now - self._first_at) if self._first_at is not None else 0.0
