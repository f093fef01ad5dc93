"""How much of its device an engine host holds: asked of its engines, soon after it may have changed."""

from collections.abc import Callable
from typing import Final

from bus.telemetry.logging import logger
from gpuworker.engine import Engine, Weighing

log = logger(__name__)

#: Steps come by the hundred a second, heartbeats once.
_PAUSE_S: Final = 1.0


class Scale:
    """`tell` is called with bytes that differ from those told before, never where no engine knows any.

    With None once the last engine that knew some cannot tell any more.
    """

    def __init__(self, tell: Callable[[int | None], None]) -> None:
        self._tell = tell
        self._engines: list[Weighing] = []
        self._told: int | None = None
        #: When to ask next; None: nothing has happened since.
        self._due_at: float | None = None

    def loaded(self, engine: Engine, now: float) -> None:
        """Ask `engine` from now on, if it has anything to tell."""
        if isinstance(engine, Weighing) and self._ask(engine) is not None:
            self._engines.append(engine)
            self._due_at = now

    def stepped(self, now: float) -> None:
        if self._engines and self._due_at is None:
            self._due_at = now + _PAUSE_S

    def wait_s(self, now: float) -> float | None:
        """Until `weigh` has something to do; None: not before the next step."""
        return None if self._due_at is None else max(0.0, self._due_at - now)

    def weigh(self, now: float) -> None:
        if self._due_at is None or now < self._due_at:
            return
        self._due_at = None
        found = [self._ask(each) for each in list(self._engines)]
        num_bytes = max((each for each in found if each is not None), default=None)
        if num_bytes != self._told:
            self._told = num_bytes
            self._tell(num_bytes)

    def _ask(self, engine: Weighing) -> int | None:
        try:
            return engine.device_bytes()
        except Exception:  # foreign code: what it cannot tell costs no job its engine
            log.exception("engine.memory_unknown", engine=type(engine).__name__)
            self._engines = [each for each in self._engines if each is not engine]
            return None
