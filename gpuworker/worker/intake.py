"""How many jobs a worker may take now: what its slots, its breaker and the other workers leave."""

import asyncio
import time
from collections.abc import Callable

from bus.telemetry.logging import logger
from gpuworker.settings import WorkerSettings
from gpuworker.worker.breaker import Breaker, State
from gpuworker.worker.peers import Peers

log = logger(__name__)

#: A timer may fire this much before its time by the other clock.
_EARLY_S = 0.01


class Intake:
    def __init__(
        self, settings: WorkerSettings, peers: Peers, turned: Callable[[], None], room: Callable[[], None]
    ) -> None:
        """`turned` is called when the breaker's state changes, `room` when there may be room although no job ended."""
        self._settings, self._peers, self._announce, self._room = settings, peers, turned, room
        self.breaker = Breaker(settings.max_fails, settings.fail_timeout_s, time.monotonic, self._turned)
        #: Set once for good: nothing new is taken.
        self.closed = False
        #: Deliveries that have not become a running job yet.
        self._unproven: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    def vacant(self, held: int) -> int:
        """Jobs that could begin beside the `held` ones, if this worker were alone."""
        return 0 if self.closed else max(0, min(self._settings.slots - held, self.breaker.room))

    def free(self, held: int) -> int:
        """Jobs that may begin now beside the `held` ones."""
        vacant, room = self.vacant(held), self._peers.room
        if room is None:
            return vacant
        if vacant and not room:
            self._look_at_peers_later()
        return min(vacant, room)

    # What becomes of a delivery

    def begin(self) -> int:
        """A delivery came; its number is for the calls below."""
        number = self.breaker.begin()
        self._unproven.add(number)
        self._peers.shares.began()
        return number

    def runs(self, number: int, is_well: Callable[[], bool]) -> None:
        """It was a job for us. On trial, one that `is_well` after `fail_timeout_s` need not come to its end first."""
        self._unproven.discard(number)
        if number == self.breaker.trial:
            self._look_at_trial_later(number, is_well)

    def ended(self, number: int, *, succeeded: bool, engine_failed: bool) -> None:
        """The job came to its outcome."""
        if engine_failed:
            self.breaker.fault()
        self.breaker.settle(number, succeeded=succeeded)

    def over(self, number: int) -> None:
        """The delivery is dealt with, whatever it was."""
        self.breaker.settle(number, succeeded=False)
        if number in self._unproven:
            self._unproven.discard(number)
            self._peers.shares.returned()

    # Timers

    def _turned(self, state: State) -> None:
        settings = self._settings
        match state:
            case State.OPEN:
                log.error("breaker.opened", max_fails=settings.max_fails, fail_timeout_s=settings.fail_timeout_s)
                self._look_at_breaker_later()
            case State.TRIAL:
                log.warning("breaker.trial")
            case State.CLOSED:
                log.info("breaker.closed")
        self._announce()
        self._room()

    def _look_at_breaker_later(self) -> None:
        asyncio.get_running_loop().call_later(self.breaker.wait_s + _EARLY_S, self._look_at_breaker)

    def _look_at_breaker(self) -> None:
        if self.breaker.state is State.OPEN:
            self._look_at_breaker_later()

    def _look_at_trial_later(self, number: int, is_well: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.fail_timeout_s, self._look_at_trial, number, is_well)

    def _look_at_trial(self, number: int, is_well: Callable[[], bool]) -> None:
        if is_well():
            self.breaker.settle(number, succeeded=True)
        elif number == self.breaker.trial:
            self._look_at_trial_later(number, is_well)

    def _look_at_peers_later(self) -> None:
        if self._timer is None:
            wait_s = max(_EARLY_S, self._peers.wait_s)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look_at_peers)

    def _look_at_peers(self) -> None:
        self._timer = None
        self._room()
