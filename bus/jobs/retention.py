"""Keeps room in the streams: purges ended logs, and refuses new jobs before running ones are hurt. Protocol rule 15.

Streams discard new messages, so nothing is ever removed silently. Above `PURGE_ABOVE` of its bytes, whole ended logs
of REPLIES are purged until `PURGE_BELOW`: always the oldest one of the tenant whose ended logs take most room, so that
one that stores much makes room for the others. Above `REFUSE_ABOVE` new jobs are refused, unless their tenant has less
than an equal part of the store; above `BULK_STOPS_ABOVE` streams far ahead of their listeners wait, above
`BLOCKS_STOP_ABOVE` all that run, and all new jobs are refused. Workers drain JOBS, so there only the refusal applies.
Every gateway does this. Purging twice does no harm: a purge goes no further than the messages its gateway saw, and a
log born since under the same key stays.

The server itself removes messages that are too old one by one, a log's birth first. A log that has only its end left is
worse than none, above all for a client that submits its id again: so whole logs are purged shortly before.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

from bus.errors import BusError, StorageFull
from bus.fair_pool import equal_part
from bus.jobs.client import Bus
from bus.jobs.ended_logs import EndedLog, EndedLogs, is_rested
from bus.telemetry.logging import logger
from bus.transport.clock import parse_time

log = logger(__name__)

#: Shares of a stream's bytes.
WARN_ABOVE: Final = 0.6
PURGE_ABOVE: Final = 0.7
PURGE_BELOW: Final = 0.65
REFUSE_ABOVE: Final = 0.85
#: Below this, what is known of the logs is forgotten: it will be read again when the level comes near `PURGE_ABOVE`.
_FORGET_BELOW: Final = 0.5
#: Workers append no more audio to running jobs: the rest is for leases, ends and cancels.
BLOCKS_STOP_ABOVE: Final = 0.95
#: They go on below this.
BLOCKS_RESUME_BELOW: Final = 0.94
#: The same for streams that are far ahead of their listeners: what others need soon still finds room.
BULK_STOPS_ABOVE: Final = 0.90
BULK_RESUMES_BELOW: Final = 0.89
_LOOK_S: Final = 5.0
#: The same while new jobs are refused.
_LOOK_FULL_S: Final = 1.0
#: Seconds after its end: a log that has just ended may still have listeners that read it.
_REST_S: Final = 30.0
#: The same while new jobs are refused.
_REST_FULL_S: Final = 5.0
#: Seconds after which a log that runs is looked at again, at most, and while new jobs are refused.
_AGAIN_S: Final = 10.0
_AGAIN_FULL_S: Final = 3.0
#: Share of the age that the stream allows: older logs are purged as a whole.
_KEEP_SHARE: Final = 0.95
#: Logs purged between two readings of the level.
_BATCH: Final = 32


class Retention:
    """Measures and purges the streams of one deployment."""

    def __init__(self, bus: Bus, look_s: float = _LOOK_S, rest_s: float = _REST_S) -> None:
        """`look_s`: interval of `run`. `rest_s`: how long an ended log stays at least. Both less in a full store."""
        self._bus = bus
        self._look_s = look_s
        self._rest_s = rest_s
        self._levels = {bus.subjects.jobs_stream: 0.0, bus.subjects.replies_stream: 0.0}
        self._limits = dict.fromkeys(self._levels, 0)
        self._logs = EndedLogs(bus)
        self._warned = False
        #: See `_part_of_each`; None: not computed since the last look.
        self._part: float | None = None
        #: Whether a stream is so full that a new job needs `check_room`.
        self.is_full = False

    @property
    def full(self) -> dict[str, float]:
        """Streams without room for all new jobs, and the share of their bytes that was used at the last look."""
        return {stream: level for stream, level in self._levels.items() if level > REFUSE_ABOVE}

    def check_room(self, tenant: str, num_bytes: int, reserved: Mapping[str, float]) -> None:
        """Raises StorageFull, which names stream, bytes and limit, if a new job of `tenant` must wait.

        `num_bytes`: the most that the job stores. `reserved`: the same of the jobs that wait or run, by tenant.
        """
        for stream, level in self.full.items():
            limit = self._limits[stream]
            used = f"{stream} is {level:.0%} full: {level * limit:,.0f} of {limit:,} bytes"
            if stream != self._bus.subjects.replies_stream:
                raise StorageFull(f"{used}; new jobs are taken up to {REFUSE_ABOVE:.0%}")
            held = self._logs.index.bytes_of.get(tenant, 0) + reserved.get(tenant, 0)
            part = self._part_of_each(reserved)
            if held + num_bytes > part:
                raise StorageFull(
                    f"{used}, {held:,.0f} of them tenant {tenant}'s; this job may need {num_bytes:,} more, and above "
                    f"{REFUSE_ABOVE:.0%} no tenant gets more than an equal part, {part:,.0f} bytes"
                )
            if level * limit + num_bytes > BLOCKS_STOP_ABOVE * limit:
                raise StorageFull(
                    f"{used}; new jobs are taken up to {BLOCKS_STOP_ABOVE:.0%}, and this one may need {num_bytes:,}"
                )

    def _part_of_each(self, reserved: Mapping[str, float]) -> float:
        """The most bytes that a tenant may have while the store is full; computed once after each look."""
        if self._part is None:
            stream = self._bus.subjects.replies_stream
            limit, held = self._limits[stream], Counter(self._logs.index.bytes_of)
            held.update({tenant: int(num_bytes) for tenant, num_bytes in reserved.items()})
            # Whose the rest is, is not known: small jobs that run, and logs that have ended since the last look.
            unknown = max(0.0, self._levels[stream] * limit - held.total())
            self._part = equal_part(held.values(), REFUSE_ABOVE * limit - unknown)
        return self._part

    async def run(self) -> None:
        """Call `look` again and again until cancelled. A failed one is logged."""
        while True:
            try:
                await self.look()
            except BusError as error:
                log.warning("retention.failed", error=str(error))  # the next look tries again
            await asyncio.sleep(min(self._look_s, _LOOK_FULL_S) if self.is_full else self._look_s)

    async def look(self) -> None:
        """Measure once, and purge if REPLIES is too full. Cancelling leaves whole logs.

        Raises Unreachable, ApiError.
        """
        self._part = None
        for stream in self._levels:
            await self._measure(stream)
        stream = self._bus.subjects.replies_stream
        level = self._levels[stream]
        if level > WARN_ABOVE and not self._warned:
            log.warning("retention.filling", stream=stream, level=round(level, 3))
        self._warned = level > WARN_ABOVE
        born_before_s = self._bus.clock.server_now() - _KEEP_SHARE * self._bus.settings.replies_max_age_s
        oldest = await self._bus.js.direct.next(stream, self._bus.subjects.all_births, 1)
        is_old = oldest is not None and parse_time(oldest[0].stored_at) < born_before_s
        if level <= WARN_ABOVE and not is_old:
            if level < _FORGET_BELOW:
                self._logs = EndedLogs(self._bus)
            return
        again_s = _AGAIN_FULL_S if level > REFUSE_ABOVE else _AGAIN_S
        await self._logs.update(math.inf if level > WARN_ABOVE else born_before_s, again_s)
        await self._purge_old(stream, born_before_s)
        if level > PURGE_ABOVE:
            await self._purge(stream)

    async def _purge_old(self, stream: str, born_before_s: float) -> None:
        """Purge ended logs that the server would soon remove message by message."""
        now_s, purged = self._bus.clock.server_now(), 0
        for ended in self._logs.index.born_before(born_before_s):
            if is_rested(ended, now_s, self._rest_s):
                purged += await self._purge_log(stream, ended)
        if purged:
            log.info("retention.purged", stream=stream, logs=purged, level=round(self._levels[stream], 3))

    async def _purge_log(self, stream: str, ended: EndedLog) -> bool:
        """Whether the log was still there. It is forgotten either way."""
        last_seq = await self._logs.last_seq(ended)
        if last_seq is not None:
            # One purge for birth, lease and entries: half a log is no recording, and its lease is a fence. Bounded:
            # another gateway may have purged it a moment ago, and a client submitted its id again.
            body = {"filter": self._logs.key(ended.log).everything, "seq": last_seq + 1}
            await self._bus.js.api(f"STREAM.PURGE.{stream}", body)
        self._logs.index.forget(ended.log.tenant, ended.log.job)
        return last_seq is not None

    async def _measure(self, stream: str) -> None:
        info = await self._bus.js.info(stream)
        limit = info["config"].get("max_bytes", -1)
        self._limits[stream] = limit
        self._levels[stream] = float(info["state"]["bytes"]) / limit if limit > 0 else 0.0
        self.is_full = bool(self.full)

    async def _purge(self, stream: str) -> None:
        purged = num_unmeasured = freed_bytes = 0
        while (
            ended := self._logs.index.first_to_go(self._bus.clock.server_now(), self._rest_now_s(stream))
        ) is not None:
            if not await self._purge_log(stream, ended):
                continue
            purged += 1
            num_unmeasured += 1
            freed_bytes += ended.num_bytes
            excess_bytes = (self._levels[stream] - PURGE_BELOW) * self._limits[stream]
            if num_unmeasured == _BATCH or freed_bytes > excess_bytes:
                await self._measure(stream)
                num_unmeasured = freed_bytes = 0
                if self._levels[stream] < PURGE_BELOW:
                    break
        await self._measure(stream)
        if purged:
            log.info("retention.purged", stream=stream, logs=purged, level=round(self._levels[stream], 3))

    def _rest_now_s(self, stream: str) -> float:
        return min(self._rest_s, _REST_FULL_S) if self._levels[stream] > REFUSE_ABOVE else self._rest_s
