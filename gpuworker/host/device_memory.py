"""Device memory of one engine host: read from its engines soon after it may have changed."""

from collections.abc import Callable
from typing import Final

from bus.telemetry.logging import logger
from gpuworker.engine import Engine, ReportsMemory

log = logger(__name__)

#: Steps come by the hundred a second, heartbeats once: the engines are read at most this often.
_INTERVAL_S: Final = 1.0


class DeviceMemory:
    """Calls `report(num_bytes)` when the value changes; never if no engine reports memory.

    The value is None once the last engine that reported some cannot any more. Times are of one monotonic clock, passed
    in.
    """

    def __init__(self, report: Callable[[int | None], None]) -> None:
        self._report = report
        self._engines: list[ReportsMemory] = []
        #: Whether an engine reports memory; without one there is nothing to read.
        self.is_in_use = False
        self._reported: int | None = None
        #: Time of the next reading; None: no engine has worked since the last one.
        self._due_at: float | None = None

    def add(self, engine: Engine, now: float) -> None:
        """Read `engine`, just loaded, from now on, if it reports memory."""
        if isinstance(engine, ReportsMemory) and self._read(engine) is not None:
            self._engines.append(engine)
            self._due_at = now
            self.is_in_use = True

    def stepped(self, now: float) -> None:
        """Note that an engine has worked, so the value may have changed."""
        if self._engines and self._due_at is None:
            self._due_at = now + _INTERVAL_S

    def wait_s(self, now: float) -> float | None:
        """Seconds until `poll` has something to do; None: not before the next step."""
        return None if self._due_at is None else max(0.0, self._due_at - now)

    def poll(self, now: float) -> None:
        """Read the engines if it is time to, and report the value if it has changed."""
        if self._due_at is None or now < self._due_at:
            return
        self._due_at = None
        found = [self._read(each) for each in list(self._engines)]
        num_bytes = max((each for each in found if each is not None), default=None)
        if num_bytes != self._reported:
            self._reported = num_bytes
            self._report(num_bytes)

    def _read(self, engine: ReportsMemory) -> int | None:
        try:
            return engine.device_bytes()
        except Exception:  # foreign code: a figure that cannot be read costs no job its engine
            log.exception("engine.memory_unknown", engine=type(engine).__name__)
            self._engines = [each for each in self._engines if each is not engine]
            return None
