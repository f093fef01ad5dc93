"""How many jobs a worker may take now: what its slots, its breaker and its share of the fleet's jobs leave."""

import asyncio
import time
from collections.abc import Callable

from bus.telemetry import logger
from gpuworker.breaker import Breaker, State
from gpuworker.settings import WorkerSettings

log = logger(__name__)

#: A timer may fire this much before its time by the other clock.
_EARLY_S = 0.01


class Intake:
    def __init__(self, settings: WorkerSettings, changed: Callable[[], None]) -> None:
        """`changed` is called when `free` may have, without a job that began or ended."""
        self._settings, self._changed = settings, changed
        self.breaker = Breaker(settings.max_fails, settings.fail_timeout_s, time.monotonic, self._turned)
        #: Set once for good: nothing new is taken.
        self.closed = False

    def free(self, held: int) -> int:
        """Jobs that may begin now, beside the `held` ones."""
        if self.closed:
            return 0
        return min(self._settings.slots - held, self.breaker.room)

    # The breaker

    def _turned(self, state: State) -> None:
        settings = self._settings
        match state:
            case State.OPEN:
                log.error("breaker.opened", max_fails=settings.max_fails, fail_timeout_s=settings.fail_timeout_s)
                self._look_later()
            case State.TRIAL:
                log.warning("breaker.trial")
            case State.CLOSED:
                log.info("breaker.closed")
        self._changed()

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(self.breaker.wait_s + _EARLY_S, self._look)

    def _look(self) -> None:
        if self.breaker.state is State.OPEN:
            self._look_later()
