"""A bus whose clock a test can put forward."""

import dataclasses

from bus.jobs.client import Bus
from bus.transport.clock import BusClock


class ShiftedClock(BusClock):
    """`clock`, plus `shift_s`."""

    def __init__(self, clock: BusClock) -> None:
        super().__init__()
        self._clock = clock
        self.shift_s = 0.0

    def now(self) -> float:
        return self._clock.now() + self.shift_s

    def server_now(self) -> float:
        return self._clock.server_now() + self.shift_s


def shifted(bus: Bus) -> tuple[Bus, ShiftedClock]:
    """The same bus with a clock to put forward."""
    clock = ShiftedClock(bus.clock)
    return dataclasses.replace(bus, clock=clock), clock
