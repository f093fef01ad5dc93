"""The latest heartbeat of every worker, by which faults find a target and a run finds out that it is at rest."""

import time
from collections.abc import Sequence
from typing import Final

from bus.fleet.fleet import read_heartbeat
from bus.fleet.messages import Heartbeat
from bus.jobs.client import Bus
from ops.chaos.process import Process

#: A worker whose heartbeat is older than this many seconds is not counted as able to take over.
_FRESH_S: Final = 1.5


class FleetMonitor:
    """Subscribes to the heartbeats on `bus` for as long as its connection lives."""

    def __init__(self, bus: Bus) -> None:
        #: By worker id: its last heartbeat and when it arrived, monotonic seconds.
        self.beats: dict[str, tuple[Heartbeat, float]] = {}
        bus.connection.subscribe(bus.subjects.all_heartbeats, self._on_heartbeat)

    def _on_heartbeat(self, message: object) -> None:
        beat = read_heartbeat(message)  # type: ignore[arg-type]
        if beat is not None:
            self.beats[beat.id] = (beat, time.monotonic())

    def is_warm(self, process: Process) -> bool:
        """Whether this very process, not one that had its name before, takes jobs for every model."""
        beat, at = self.beats.get(process.name, (None, 0.0))
        fresh = time.monotonic() - at < _FRESH_S
        if beat is None or beat.loading or process.frozen or not fresh:
            return False
        return (beat.pid, beat.state) == (process.pid, "ready")

    def free_slots(self, workers: Sequence[Process]) -> int:
        """Slots that are free on those of `workers` that take jobs."""
        beats = [self.beats[worker.name][0] for worker in workers if self.is_warm(worker)]
        return sum(max(0, beat.slots - len(beat.held)) for beat in beats if beat.breaker == "closed")

    def held_by(self, worker: Process) -> int:
        """Jobs that `worker` held at its last heartbeat."""
        return len(self.beats[worker.name][0].held) if worker.name in self.beats else 0

    def held(self) -> int:
        """Jobs that all workers with a fresh heartbeat hold."""
        return sum(len(beat.held) for beat, at in self.beats.values() if time.monotonic() - at < _FRESH_S)
