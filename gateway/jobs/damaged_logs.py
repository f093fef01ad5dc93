"""Logs of which a damaged store has lost entries: each is reported once, and refused before a response begins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bus.errors import JobError, LogDamaged
from bus.jobs.damage import missing
from bus.jobs.entry import Entry
from bus.jobs.log import Logs
from bus.subjects import JobKey
from bus.telemetry.logging import logger

log = logger(__name__)

#: Logs that are remembered, the newest; another one is found again when it is read.
_MAX_LOGS: Final = 1000
#: Ranges that are remembered of one log.
_MAX_RANGES: Final = 16


class DamagedLogs:
    """The damage that this process has found."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        #: Lost frames as (first, stop), by log.
        self._lost: dict[JobKey, list[tuple[int, int]]] = {}

    @asynccontextmanager
    async def reported(self, key: JobKey) -> AsyncIterator[None]:
        """Report the damage that a reader of the log meets within the block. Raises Gone instead if it was removed."""
        try:
            yield
        except LogDamaged as error:
            raise await self.found(key, error) from None

    async def found(self, key: JobKey, error: LogDamaged) -> JobError:
        """Report the damage that a reader of the log met; returns the error to raise. Raises Unreachable."""
        actual = await missing(self._logs, key, error.first, error.stop)
        if not isinstance(actual, LogDamaged):
            return actual
        known = self._lost.pop(key, None)
        if known is None:
            log.error("log.damaged", job=key.job, tenant=key.tenant, first_frame=error.first, stop_frame=error.stop)
            known = []
        if (error.first, error.stop) not in known and len(known) < _MAX_RANGES:
            known.append((error.first, error.stop))
        self._lost[key] = known
        if len(self._lost) > _MAX_LOGS:
            del self._lost[next(iter(self._lost))]
        return error

    def check(self, key: JobKey, first: int, stop: int) -> None:
        """Raises LogDamaged if frames within `first` to `stop - 1` of the log are known to be lost."""
        for lost_first, lost_stop in self._lost.get(key, ()):
            if lost_first < stop and first < lost_stop:
                raise LogDamaged.at(lost_first, lost_stop)


class Continuity:
    """Checks that the blocks of a log follow each other, for readers that do not assemble the audio."""

    def __init__(self, *, from_start: bool) -> None:
        """`from_start`: the first entry to come is that of the log."""
        self._frame: int | None = 0 if from_start else None

    def feed(self, entry: Entry) -> None:
        """Take the next entry. Raises LogDamaged if frames before it are missing; then it has been taken."""
        if entry.kind == "block":
            expected, first, after = self._frame, entry.frame, entry.position.frame
        elif entry.kind == "done":
            expected, first = self._frame, entry.position.frame
            after = first
        else:
            return
        self._frame = after
        if expected is not None and first > expected:
            raise LogDamaged.at(expected, first)
