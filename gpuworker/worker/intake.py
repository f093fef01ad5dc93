"""How many jobs a worker may take now: bounded by its slots, its breaker and the other workers."""

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


class BreakerTimers:
    """A breaker and the timers that move it: from open to trial, and on when a trial job runs well for long."""

    def __init__(
        self, settings: WorkerSettings, on_change: Callable[[], None], on_capacity: Callable[[], None]
    ) -> None:
        """`on_change`: the state has changed. `on_capacity`: so more jobs may begin."""
        self._max_fails = settings.max_fails
        self._fail_timeout_s = settings.fail_timeout_s
        self._on_change = on_change
        self._on_capacity = on_capacity
        self.breaker = Breaker(settings.max_fails, settings.fail_timeout_s, time.monotonic, self._entered)

    def watch_trial(self, number: int, is_well: Callable[[], bool]) -> None:
        """If job `number` is on trial, it succeeds once it `is_well` after `fail_timeout_s`, although not ended."""
        if number == self.breaker.trial:
            asyncio.get_running_loop().call_later(self._fail_timeout_s, self._check_trial, number, is_well)

    def _check_trial(self, number: int, is_well: Callable[[], bool]) -> None:
        if is_well():
            self.breaker.settle(number, succeeded=True)
        else:
            self.watch_trial(number, is_well)

    def _entered(self, state: State) -> None:
        match state:
            case State.OPEN:
                log.error("breaker.opened", max_fails=self._max_fails, fail_timeout_s=self._fail_timeout_s)
                self._check_open_later()
            case State.TRIAL:
                log.warning("breaker.trial")
            case State.CLOSED:
                log.info("breaker.closed")
        self._on_change()
        self._on_capacity()

    def _check_open_later(self) -> None:
        asyncio.get_running_loop().call_later(self.breaker.wait_s + _EARLY_S, self._check_open)

    def _check_open(self) -> None:
        if self.breaker.state is State.OPEN:  # reading the state moves the breaker on
            self._check_open_later()


class Intake:
    """Admits deliveries until it is closed."""

    def __init__(
        self,
        settings: WorkerSettings,
        peers: Peers,
        on_breaker_change: Callable[[], None],
        on_capacity: Callable[[], None],
    ) -> None:
        """`on_capacity` is called when capacity may have grown although no job has ended."""
        self._timers = BreakerTimers(settings, on_breaker_change, on_capacity)
        self.breaker = self._timers.breaker
        self._num_slots = settings.slots
        self._peers = peers
        self._on_capacity = on_capacity
        #: Whether nothing is admitted any more.
        self.is_closed = False
        self._last_number = 0
        #: Numbers of deliveries that have not become a running job yet.
        self._unclaimed: set[int] = set()
        #: Pending while the other workers leave no room.
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Admit nothing from now on, for good."""
        self.is_closed = True

    def vacant(self, num_used: int) -> int:
        """Jobs that could begin beside `num_used` ones if there were no other worker."""
        if self.is_closed:
            return 0
        num_vacant = self._num_slots - num_used
        return max(0, num_vacant if self.breaker.is_closed else min(num_vacant, self.breaker.room))

    def free(self, num_used: int) -> int:
        """Jobs that may begin now beside `num_used` ones. If the others leave no room, `on_capacity` comes later."""
        vacant, peers = self.vacant(num_used), self._peers
        if not peers.yields_to_primaries and not peers.fair_share.rivals:
            return vacant
        room = peers.room
        if room is None:
            return vacant
        if vacant and not room and self._timer is None:
            wait_s = max(_EARLY_S, peers.wait_s)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._retry)
        return min(vacant, room)

    def peers_changed(self) -> None:
        """Another worker reported, or is gone: it may leave room now."""
        if self._timer is not None:
            self._on_capacity()

    def _retry(self) -> None:
        self._timer = None
        self._on_capacity()

    # The way of a delivery

    def begin(self) -> int:
        """A delivery came; returns its number for the calls below."""
        self._last_number += 1
        number = self._last_number
        if not self.breaker.is_closed:
            self.breaker.begin(number)
        self._unclaimed.add(number)
        self._peers.fair_share.num_started += 1
        return number

    def running(self, number: int, is_well: Callable[[], bool]) -> None:
        """The delivery was claimed and its job runs; see `BreakerTimers.watch_trial`."""
        self._unclaimed.discard(number)
        self._timers.watch_trial(number, is_well)

    def ended(self, number: int, *, succeeded: bool, engine_failed: bool) -> None:
        """The job came to its outcome."""
        if engine_failed:
            self.breaker.fault()
        if number == self.breaker.trial:
            self.breaker.settle(number, succeeded=succeeded)

    def over(self, number: int) -> None:
        """The delivery is settled, whether or not it became a job."""
        if number == self.breaker.trial:
            self.breaker.settle(number, succeeded=False)
        if number in self._unclaimed:
            self._unclaimed.discard(number)
            self._peers.fair_share.num_started -= 1
