"""The other workers, as far as they decide what this one may take: their weights and counts, and who is no backup."""

import time
from collections.abc import Callable, Iterable

from bus.fleet.messages import Heartbeat
from bus.fleet.presence import beat_of
from bus.jobs.client import Bus
from bus.subjects import worker_of
from bus.transport.parser import Message
from gpuworker.settings import WorkerSettings
from gpuworker.worker.fair_share import FairShare

#: Heartbeats come each second: without one for so long a peer decides nothing here any more.
_SILENT_S = 1.5


class Peers:
    def __init__(self, bus: Bus, settings: WorkerSettings, changed: Callable[[], None]) -> None:
        """`changed` is called when somebody's heartbeat may have made room here."""
        self._bus, self._settings, self._changed = bus, settings, changed
        self.shares = FairShare(settings.weight, time.monotonic)
        #: Primaries that would take any job that we take, and when they were heard.
        self._primaries: dict[str, tuple[float, int]] = {}
        self._models: set[str] = set()
        self._is_loading = True
        self._was_held = False

    def serves(self, models: Iterable[str], *, is_loading: bool) -> None:
        """What is offered here from now on, and whether some of it is still to be loaded."""
        self._models, self._is_loading = set(models), is_loading

    @property
    def stands_back(self) -> bool:
        """Whether jobs are left to any primary that is free: a backup does so always, every worker while it loads."""
        return self._settings.backup or self._is_loading

    def listen(self) -> Callable[[], None]:
        """Hear the others from now on; returns what ends that."""
        connection, subjects = self._bus.connection, self._bus.subjects
        heard = connection.subscribe(subjects.all_heartbeats, self._heard)
        gone = connection.subscribe(subjects.all_gone, self._gone)

        def deaf() -> None:
            heard.close()
            gone.close()

        return deaf

    @property
    def room(self) -> int | None:
        """How many jobs may be taken, for all that the others do; None: as many as one likes."""
        room = 0 if self._primary_is_free() else self.shares.room
        self._was_held = room == 0
        return room

    @property
    def wait_s(self) -> float:
        """Without room: when to look again although nobody was heard."""
        return _SILENT_S if self._primary_is_free() else self.shares.wait_s

    def _primary_is_free(self) -> bool:
        if not self.stands_back:
            return False
        now = time.monotonic()
        return any(free > 0 and now - heard_at < _SILENT_S for heard_at, free in self._primaries.values())

    def _heard(self, message: Message) -> None:
        if worker_of(message.subject) == self._settings.id:
            return
        beat = beat_of(message)
        if beat is None:
            return
        takes_jobs = beat.state == "ready" and beat.breaker == "closed"
        self._count_primary(beat, takes_jobs=takes_jobs and not beat.backup and not beat.loading)
        is_equal = beat.backup == self._settings.backup and set(beat.models) == self._models
        if takes_jobs and is_equal and not beat.loading:
            self.shares.heard(beat.id, beat.weight, sum(beat.started.values()))
        else:
            self.shares.forget(beat.id)
        if self._was_held:
            self._changed()

    def _gone(self, message: Message) -> None:
        """A gateway found that worker dead."""
        self._primaries.pop(worker_of(message.subject), None)
        self.shares.forget(worker_of(message.subject))
        if self._was_held:
            self._changed()

    def _count_primary(self, beat: Heartbeat, *, takes_jobs: bool) -> None:
        if takes_jobs and self._models <= set(beat.models):
            self._primaries[beat.id] = (time.monotonic(), beat.free)
        else:
            self._primaries.pop(beat.id, None)
