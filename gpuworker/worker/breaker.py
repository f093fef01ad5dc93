"""Circuit breaker of a worker: `max_fails` and `fail_timeout`, with the meaning that an nginx upstream gives them.

          max_fails faults within fail_timeout_s                fail_timeout_s later
   closed ──────────────────────────────────────► open ─────────────────────────────────► trial (one job)
      ▲                                            ▲                                        │     │
      │                                            └─────────── the trial failed ───────────┘     │
      └──────────────────────────────── the trial succeeded ──────────────────────────────────────┘

Pure: no I/O, and no clock but the one it is given.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

#: Room of a closed breaker.
_UNLIMITED: Final = 1 << 30


class State(StrEnum):
    """CLOSED: jobs begin freely. OPEN: none may. TRIAL: one may, and its outcome decides."""

    CLOSED = "closed"
    OPEN = "open"
    TRIAL = "trial"


class Breaker:
    """Counts faults and decides how many jobs may begin."""

    def __init__(
        self, max_fails: int, fail_timeout_s: float, clock: Callable[[], float], on_change: Callable[[State], None]
    ) -> None:
        """`clock` is monotonic seconds. `on_change` gets each new state. With `max_fails` 0 it never opens."""
        self._max_fails = max_fails
        self._fail_timeout_s = fail_timeout_s
        self._clock = clock
        self._on_change = on_change
        self._faults: deque[float] = deque(maxlen=max(1, max_fails))
        self._opened_at = 0.0
        #: Number of the job on trial; 0: none.
        self.trial = 0
        #: Whether jobs begin freely.
        self.is_closed = True
        self._state = State.CLOSED

    @property
    def state(self) -> State:
        """The state now. Reading it moves an open breaker to TRIAL once its time has passed."""
        if self._state is State.OPEN and self.wait_s <= 0:
            self._enter(State.TRIAL)
        return self._state

    @property
    def wait_s(self) -> float:
        """Seconds until an open breaker lets one job begin; 0 in the other states."""
        if self._state is not State.OPEN:
            return 0.0
        return max(0.0, self._opened_at + self._fail_timeout_s - self._clock())

    @property
    def room(self) -> int:
        """How many more jobs may begin now."""
        match self.state:
            case State.CLOSED:
                return _UNLIMITED
            case State.OPEN:
                return 0
            case State.TRIAL:
                return 0 if self.trial else 1

    def begin(self, number: int) -> None:
        """Job `number` begins; numbers count from 1. A closed breaker takes no note of it."""
        if self.state is State.TRIAL and not self.trial:
            self.trial = number

    def fault(self) -> None:
        """The engine failed, stalled or died in a job."""
        now = self._clock()
        self._faults.append(now)
        if self._max_fails == 0 or self.state is State.OPEN:
            return
        is_too_many = len(self._faults) == self._max_fails and now - self._faults[0] <= self._fail_timeout_s
        if self._state is State.TRIAL or is_too_many:
            self._opened_at = now
            self.trial = 0
            self._faults.clear()
            self._enter(State.OPEN)

    def settle(self, number: int, *, succeeded: bool) -> None:
        """Job `number` is over. A trial job without success and without a `fault` proves nothing: another is tried."""
        if number != self.trial or self.state is not State.TRIAL:
            return
        self.trial = 0
        if succeeded:
            self._faults.clear()
            self._enter(State.CLOSED)

    def _enter(self, state: State) -> None:
        self._state = state
        self.is_closed = state is State.CLOSED
        self._on_change(state)
