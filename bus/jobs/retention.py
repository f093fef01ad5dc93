"""Keeps room in the streams: purges ended logs, and refuses new jobs before running ones are hurt. Protocol rule 15.

Streams discard new messages, so nothing is ever removed silently. Above `PURGE_ABOVE` of its bytes, whole ended logs
of REPLIES are purged, oldest first, until `PURGE_BELOW`; above `REFUSE_ABOVE` new jobs are refused: the rest belongs to
the jobs that run. Workers drain JOBS, so there only the refusal applies. Every gateway does this. Purging twice does
no harm: a purge goes no further than the messages its gateway saw, and a log born since under the same key stays.

The server itself removes messages that are too old one by one, a log's birth first. A log that has only its end left is
worse than none, above all for a client that submits its id again: so whole logs are purged shortly before.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from bus import wire
from bus.errors import BusError, StorageFull
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.subjects import JobKey, parse_birth
from bus.telemetry.logging import logger
from bus.transport.clock import parse_time

log = logger(__name__)

#: Shares of a stream's bytes.
WARN_ABOVE: Final = 0.6
PURGE_ABOVE: Final = 0.7
PURGE_BELOW: Final = 0.65
REFUSE_ABOVE: Final = 0.85
#: Workers append no more audio to running jobs: the rest is for leases, ends and cancels.
BLOCKS_STOP_ABOVE: Final = 0.95
#: They go on below this.
BLOCKS_RESUME_BELOW: Final = 0.94
_LOOK_S: Final = 5.0
#: Seconds after its end: a log that has just ended may still have listeners that read it.
_REST_S: Final = 30.0
#: Share of the age that the stream allows: older logs are purged as a whole.
_KEEP_SHARE: Final = 0.95
#: Logs purged between two readings of the level.
_BATCH: Final = 32


class _EndedLog(NamedTuple):
    """A log that may be purged."""

    key: JobKey
    #: Stream sequence of the newest of its messages.
    last_seq: int


class Retention:
    """Measures and purges the streams of one deployment."""

    def __init__(self, bus: Bus, look_s: float = _LOOK_S, rest_s: float = _REST_S) -> None:
        """`look_s`: interval of `run`. `rest_s`: how long an ended log stays at least."""
        self._bus = bus
        self._look_s = look_s
        self._rest_s = rest_s
        self._levels = {bus.subjects.jobs_stream: 0.0, bus.subjects.replies_stream: 0.0}
        self._warned = False
        #: Whether a stream has no room for new jobs: `check_room` raises.
        self.is_full = False

    @property
    def full(self) -> dict[str, float]:
        """Streams without room for new jobs, and the share of their bytes that was used at the last look."""
        return {stream: level for stream, level in self._levels.items() if level > REFUSE_ABOVE}

    def check_room(self) -> None:
        """Raises StorageFull, naming stream, level and limit, if new jobs must wait."""
        for stream, level in self.full.items():
            raise StorageFull(f"{stream} is {level:.0%} full, new jobs are taken up to {REFUSE_ABOVE:.0%}")

    async def run(self) -> None:
        """Call `look` again and again until cancelled. A failed one is logged."""
        while True:
            try:
                await self.look()
            except BusError as error:
                log.warning("retention.failed", error=str(error))  # the next look tries again
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """Measure once, and purge if REPLIES is too full. Cancelling leaves whole logs.

        Raises Unreachable, ApiError.
        """
        for stream in self._levels:
            await self._measure(stream)
        stream = self._bus.subjects.replies_stream
        level = self._levels[stream]
        if level > WARN_ABOVE and not self._warned:
            log.warning("retention.filling", stream=stream, level=round(level, 3))
        self._warned = level > WARN_ABOVE
        await self._purge_old(stream)
        if level > PURGE_ABOVE:
            await self._purge(stream)

    async def _purge_old(self, stream: str) -> None:
        """Purge ended logs that the server would soon remove message by message."""
        born_before_s = self._bus.clock.server_now() - _KEEP_SHARE * self._bus.settings.replies_max_age_s
        oldest = await self._bus.js.direct.next(stream, self._bus.subjects.all_births, 1)
        if oldest is None or parse_time(oldest[0].stored_at) >= born_before_s:
            return
        purged = 0
        async for ended in self._ended_logs(born_before_s):
            await self._purge_log(stream, ended)
            purged += 1
        if purged:
            log.info("retention.purged", stream=stream, logs=purged, level=round(self._levels[stream], 3))

    async def _purge_log(self, stream: str, ended: _EndedLog) -> None:
        # One purge for birth, lease and entries: half a log is no recording, and its lease is a fence. Bounded: another
        # gateway may have purged it a moment ago, and a client submitted its id again.
        body = {"filter": ended.key.everything, "seq": ended.last_seq + 1}
        await self._bus.js.api(f"STREAM.PURGE.{stream}", body)

    async def _measure(self, stream: str) -> None:
        info = await self._bus.js.info(stream)
        limit = info["config"].get("max_bytes", -1)
        self._levels[stream] = float(info["state"]["bytes"]) / limit if limit > 0 else 0.0
        self.is_full = bool(self.full)

    async def _purge(self, stream: str) -> None:
        purged = 0
        async for ended in self._ended_logs():
            await self._purge_log(stream, ended)
            purged += 1
            if purged % _BATCH == 0:
                await self._measure(stream)
                if self._levels[stream] < PURGE_BELOW:
                    break
        await self._measure(stream)
        log.info("retention.purged", stream=stream, logs=purged, level=round(self._levels[stream], 3))

    async def _ended_logs(self, born_before_s: float = math.inf) -> AsyncIterator[_EndedLog]:
        """Logs that ended at least `rest_s` ago, oldest birth first. `born_before_s`: Unix seconds, the server's."""
        subjects, seq = self._bus.subjects, 1
        while True:
            births, pending = await self._bus.js.direct.page(subjects.replies_stream, subjects.all_births, seq)
            for birth in births:
                if parse_time(birth.stored_at) >= born_before_s:
                    return
                tenant, job = parse_birth(birth.message.subject)
                ended = await self._ended_log(subjects.job_key(tenant, job))
                if ended is not None:
                    yield ended
            if not births or not pending:
                return
            seq = births[-1].seq + 1

    async def _ended_log(self, key: JobKey) -> _EndedLog | None:
        """The log, if it ended at least `rest_s` ago."""
        stream = self._bus.subjects.replies_stream
        # Read before the end: later messages may belong to another log of this key.
        newest = await self._bus.js.last(stream, key.everything)
        if newest is None:
            return None
        # A process that did not know of the end may have written a lease behind it.
        tail = newest if newest.message.subject == key.entries else await self._bus.js.last(stream, key.entries)
        if tail is None or Entry.stored(tail).kind not in wire.ENDS:
            return None
        # Stored long after now: the server's clock has been set back since.
        is_rested = abs(self._bus.clock.server_now() - parse_time(tail.stored_at)) >= self._rest_s
        return _EndedLog(key, newest.seq) if is_rested else None
