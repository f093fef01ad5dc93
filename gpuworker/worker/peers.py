"""The other workers as far as they limit this one: their weights, their counts, and the primaries with a free slot."""

import time
from collections.abc import Callable, Iterable

from bus.fleet.fleet import read_heartbeat
from bus.fleet.messages import Heartbeat
from bus.jobs.client import Bus
from bus.subjects import worker_of
from bus.transport.parser import Message
from gpuworker.settings import WorkerSettings
from gpuworker.worker.fair_share import FairShare

#: Heartbeats come each second: a primary that is silent for so long limits no other worker any more.
_SILENT_S = 1.5
#: A worker that is silent for so long is not counted as live.
_DEAD_S = 5.0


class Peers:
    """Follows the heartbeats of the fleet."""

    def __init__(
        self,
        bus: Bus,
        settings: WorkerSettings,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called after each report of another worker. `clock` is monotonic seconds."""
        self._bus = bus
        self._own_subject = bus.subjects.heartbeat(settings.id)
        self._is_backup = settings.backup
        self._on_change = on_change
        self._clock = clock
        self.fair_share = FairShare(settings.weight, clock)
        #: Primaries that would take any job that this worker takes: (time of the report, free slots).
        self._primaries: dict[str, tuple[float, int]] = {}
        self._models: set[str] = set()
        #: Time of the last heartbeat of each other worker.
        self._seen: dict[str, float] = {}
        #: Whether jobs are left to any primary with a free slot: always by a backup, by any worker while it loads.
        self.yields_to_primaries = True

    def offer(self, models: Iterable[str], *, is_loading: bool) -> None:
        """This worker offers `models` from now on; `is_loading`: some of them are not loaded yet."""
        self._models = set(models)
        self.yields_to_primaries = self._is_backup or is_loading

    def listen(self) -> Callable[[], None]:
        """Subscribe to the other workers' heartbeats; returns a function that unsubscribes."""
        connection, subjects = self._bus.connection, self._bus.subjects
        heartbeats = connection.subscribe(subjects.all_heartbeats, self._on_heartbeat)
        gone = connection.subscribe(subjects.all_gone, self._on_gone)

        def unsubscribe() -> None:
            """Close both subscriptions."""
            heartbeats.close()
            gone.close()

        return unsubscribe

    def num_live(self) -> int:
        """Live workers of the fleet, whatever they offer; this one included."""
        now = self._clock()
        self._seen = {worker: at for worker, at in self._seen.items() if now - at < _DEAD_S}
        return 1 + len(self._seen)

    @property
    def room(self) -> int | None:
        """How many jobs the other workers leave to this one now; None: no limit."""
        return 0 if self._has_free_primary() else self.fair_share.room

    @property
    def wait_s(self) -> float:
        """Without room: how long until there may be some although no report came."""
        return _SILENT_S if self._has_free_primary() else self.fair_share.wait_s

    def _has_free_primary(self) -> bool:
        if not self.yields_to_primaries:
            return False
        now = self._clock()
        return any(num_free > 0 and now - at < _SILENT_S for at, num_free in self._primaries.values())

    def _on_heartbeat(self, message: Message) -> None:
        if message.subject == self._own_subject:
            return
        beat = read_heartbeat(message)
        if beat is None:
            return
        self._seen[beat.id] = self._clock()
        takes_jobs = beat.state == "ready" and beat.breaker == "closed" and not beat.loading
        self._update_primary(beat, takes_jobs=takes_jobs and not beat.backup)
        is_equal = beat.backup == self._is_backup and set(beat.models) == self._models
        if takes_jobs and is_equal:
            self.fair_share.report(beat.id, beat.weight, sum(beat.started.values()))
        else:
            self.fair_share.forget(beat.id)
        self._on_change()

    def _on_gone(self, message: Message) -> None:
        """A gateway found that worker dead."""
        worker = worker_of(message.subject)
        self._seen.pop(worker, None)
        self._primaries.pop(worker, None)
        self.fair_share.forget(worker)
        self._on_change()

    def _update_primary(self, beat: Heartbeat, *, takes_jobs: bool) -> None:
        if takes_jobs and self._models <= set(beat.models):
            self._primaries[beat.id] = (self._clock(), beat.free)
        else:
            self._primaries.pop(beat.id, None)
