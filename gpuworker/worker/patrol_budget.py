"""The processor time of the quality patrol: a share of the wall time. No clock but that of the thread that spends."""

import time
from typing import Final, Self

#: Processor time by wall time, and the seconds of wall time for which unused time is kept.
SHARE: Final = 0.02
SAVED_S: Final = 60.0


class Budget:
    """Processor time that may be spent: a share of the wall time, saved up for `saved_s` of it."""

    def __init__(self, now: float, share: float = SHARE, saved_s: float = SAVED_S) -> None:
        """It begins empty, so that no moment since then had more. `now`: monotonic seconds, as in the other methods."""
        self._share = share
        self._most_s = share * saved_s
        self._left_s = 0.0
        self._reserved_s = 0.0
        self._at = now
        #: Seconds that were spent.
        self.spent_s = 0.0

    def left_s(self, now: float) -> float:
        """Seconds that may be spent now; negative after one piece took more than there was."""
        self._left_s = min(self._most_s, self._left_s + self._share * (now - self._at))
        self._at = now
        return self._left_s

    def reserve(self, seconds: float, now: float) -> bool:
        """Whether there is time for a job that will take `seconds`; then it is the job's until `release`.

        Without it jobs would share what there is, and under load none would have enough. A job that takes more than can
        be saved gets all of it.
        """
        if self.left_s(now) <= 0 or self._left_s - self._reserved_s < min(seconds, self._most_s):
            return False
        self._reserved_s += seconds
        return True

    def release(self, seconds: float) -> None:
        """Give back what was reserved and is not spent."""
        self._reserved_s -= seconds

    def spend(self, seconds: float) -> None:
        """Take the time that a piece took."""
        self._left_s -= seconds
        self.spent_s += seconds

    def is_rich(self, now: float) -> bool:
        """Whether half of all that can be saved is left: enough for what is dear."""
        return self.left_s(now) > self._most_s / 2


class Spending:
    """Takes the processor time of this thread in its block from a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._began_s = 0.0
        #: Once the block has ended.
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._began_s = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.thread_time() - self._began_s
        self._budget.spend(self.seconds)
