"""How often a job may be tried: its next attempt's number, and when it has had enough. Pure. Protocol rule 11."""

from typing import Final

import msgspec

from bus import wire
from bus.transport.pull import stream_seq

#: A job in which so many engine hosts died is given up, however many attempts it has left.
MAX_HOST_DEATHS: Final = 2


class AttemptLimits(msgspec.Struct, frozen=True):
    """Limits over all attempts of one job, whichever workers made them."""

    #: Attempts that cost one: a hand-back does not.
    max_attempts: int
    max_host_deaths: int = MAX_HOST_DEATHS

    def exhausted(self, old: wire.Lease, attempt: int) -> str | None:
        """Why attempt number `attempt` must not follow `old`, naming limit and value; None if it may."""
        last = f"last on worker {old.worker!r}" + (f": {old.detail}" if old.detail else "")
        if attempt > self.max_attempts:
            return f"interrupted {old.attempt} times, the limit is {self.max_attempts}; {last}"
        if old.host_deaths >= self.max_host_deaths:
            return f"{old.host_deaths} engine hosts died in it, the limit is {self.max_host_deaths}; {last}"
        return None


def next_attempt(old: wire.Lease | None, queue_seq: int) -> int:
    """Number of the attempt that replaces `old`, counted from 1.

    A hand-back costs no attempt, nor does a lease taken with another message than `queue_seq`, a surplus one.
    """
    if old is None:
        return 1
    is_surplus = stream_seq(old.ack) not in {queue_seq, None}
    is_free = is_surplus or old.state == wire.LeaseState.HANDED_BACK
    return max(1, old.attempt if is_free else old.attempt + 1)
