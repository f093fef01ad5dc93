"""When an ill worker steps aside, and how it comes back: `max_fails` and `fail_timeout`, as an nginx upstream has them.

          max_fails faults within fail_timeout_s                fail_timeout_s later
   closed ──────────────────────────────────────► open ─────────────────────────────────► trial (one job)
      ▲                                            ▲                                        │     │
      │                                            └─────────────── it failed ──────────────┘     │
      └──────────────────────────────────── it succeeded ─────────────────────────────────────────┘

Pure: no I/O, and no clock but the one it is given.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

#: Room without a limit of the breaker's own.
_UNLIMITED: Final = 1 << 30


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    TRIAL = "trial"


class Breaker:
    def __init__(
        self, max_fails: int, fail_timeout_s: float, clock: Callable[[], float], changed: Callable[[State], None]
    ) -> None:
        """`clock` is monotonic seconds; `changed` hears of each new state. With `max_fails` 0 it never opens."""
        self._max_fails, self._fail_timeout_s = max_fails, fail_timeout_s
        self._clock, self._changed = clock, changed
        self._faults: deque[float] = deque(maxlen=max(1, max_fails))
        self._opened_at = 0.0
        #: The job on trial, by its number; 0: none.
        self._trial = 0
        self._begun = 0
        self._state = State.CLOSED

    @property
    def state(self) -> State:
        """Open becomes trial by the clock alone, at the first look after its time."""
        if self._state is State.OPEN and self.wait_s <= 0:
            self._turn(State.TRIAL)
        return self._state

    @property
    def wait_s(self) -> float:
        """Until an open breaker lets one job through; 0 for any other state."""
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
                return 0 if self._trial else 1

    @property
    def trial(self) -> int:
        """Number of the job on trial; 0: none."""
        return self._trial

    def begin(self) -> int:
        """A job begins; its number is for `settle`."""
        self._begun += 1
        if self.state is State.TRIAL and not self._trial:
            self._trial = self._begun
        return self._begun

    def fault(self) -> None:
        """The engine failed in a job, or died, or stalled."""
        now = self._clock()
        self._faults.append(now)
        if self._max_fails == 0 or self.state is State.OPEN:
            return
        recent = len(self._faults) == self._max_fails and now - self._faults[0] <= self._fail_timeout_s
        if self._state is State.TRIAL or recent:
            self._opened_at, self._trial = now, 0
            self._faults.clear()
            self._turn(State.OPEN)

    def settle(self, number: int, *, succeeded: bool) -> None:
        """Job `number` is over; without success and without a `fault` it told nothing, and another one is tried."""
        if number != self._trial or self.state is not State.TRIAL:
            return
        self._trial = 0
        if succeeded:
            self._faults.clear()
            self._turn(State.CLOSED)

    def _turn(self, state: State) -> None:
        self._state = state
        self._changed(state)
