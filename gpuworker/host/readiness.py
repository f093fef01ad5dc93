"""Reports to the worker which loaded models can begin jobs: at once, and whenever that of an engine changes."""

from typing import Final

from gpuworker import pipe
from gpuworker.engine import Engine, ReportsReadiness
from gpuworker.pipe import Outbox

#: Engines are read this often, in seconds.
_INTERVAL_S: Final = 0.1


class Readiness:
    """Sends `pipe.Loaded` and `pipe.Unready`. Times are of the monotonic clock; those of `poll` are passed in."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._engines: dict[str, ReportsReadiness] = {}
        #: Reason by model, as reported last; "": it is ready.
        self._reported: dict[str, str] = {}
        self._due_at = 0.0
        #: Whether an engine reports readiness; without one there is nothing to read.
        self.is_in_use = False

    def add(self, model: str, engine: Engine, took_s: float) -> None:
        """Report a model that was loaded in `took_s` seconds, and read its engine from now on if it can be unready."""
        if not isinstance(engine, ReportsReadiness):
            self._send(pipe.Loaded(model, took_s))
            return
        self._engines[model] = engine
        self.is_in_use = True
        self._report(model, engine.unready(), took_s)

    def wait_s(self, now: float) -> float:
        """Seconds until `poll` has something to do."""
        return max(0.0, self._due_at - now)

    def poll(self, now: float) -> None:
        """Read the engines if it is time to, and report those that have changed between ready and unready."""
        if now < self._due_at:
            return
        self._due_at = now + _INTERVAL_S
        for model, engine in self._engines.items():
            reason = engine.unready()
            if bool(reason) != bool(self._reported[model]):
                self._report(model, reason, 0.0)

    def _report(self, model: str, reason: str, took_s: float) -> None:
        self._reported[model] = reason
        self._send(pipe.Unready(model, reason) if reason else pipe.Loaded(model, took_s))

    def _send(self, message: pipe.Loaded | pipe.Unready) -> None:
        self._outbox.send(pipe.encode_control(0, message), urgent=True)
