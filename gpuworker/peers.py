"""The other workers, as far as they decide what this one may take: their weights and counts, and who is no backup."""

import time
from collections.abc import Callable, Iterable

from bus import wire
from bus.client import Bus
from bus.parser import Message
from bus.presence import beat_of
from bus.subjects import worker_of
from gpuworker.settings import WorkerSettings
from gpuworker.shares import Shares

#: Heartbeats come each second: without one for so long a peer decides nothing here any more.
_SILENT_S = 1.5


class Peers:
    def __init__(self, bus: Bus, settings: WorkerSettings, changed: Callable[[], None]) -> None:
        """`changed` is called when somebody's heartbeat may have made room here."""
        self._bus, self._settings, self._changed = bus, settings, changed
        self.shares = Shares(settings.weight, time.monotonic)
        #: Primaries that would take any job that we take, and when they were heard.
        self._primaries: dict[str, tuple[float, int]] = {}
        self._models: set[str] = set()
        self._was_held = False

    def serves(self, models: Iterable[str]) -> None:
        """What is offered here from now on."""
        self._models = set(models)

    def listen(self) -> Callable[[], None]:
        """Hear heartbeats from now on; returns what ends that."""
        return self._bus.connection.subscribe(self._bus.subjects.all_heartbeats, self._heard).close

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
        now = time.monotonic()
        return any(free > 0 and now - heard_at < _SILENT_S for heard_at, free in self._primaries.values())

    def _heard(self, message: Message) -> None:
        if worker_of(message.subject) == self._settings.id:
            return
        beat = beat_of(message)
        if beat is None:
            return
        takes_jobs = beat.state == "ready" and beat.breaker == "closed"
        if self._settings.backup:
            self._heard_by_backup(beat, takes_jobs)
        if takes_jobs and beat.backup == self._settings.backup and set(beat.models) == self._models:
            self.shares.heard(beat.id, beat.weight, sum(beat.started.values()))
        else:
            self.shares.forget(beat.id)
        if self._was_held:
            self._changed()

    def _heard_by_backup(self, beat: wire.Heartbeat, takes_jobs: bool) -> None:
        if takes_jobs and not beat.backup and self._models <= set(beat.models):
            self._primaries[beat.id] = (time.monotonic(), beat.free)
        else:
            self._primaries.pop(beat.id, None)
