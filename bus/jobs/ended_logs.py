"""Which ended logs REPLIES holds, of whom, and how large they are: what retention chooses from.

`LogIndex` remembers (pure), `EndedLogs` reads. Each log is read once after its end, and now and then before: a log that
does not end is not read again in every pass.
"""

import asyncio
import heapq
from collections import deque
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from bus import wire
from bus.errors import EngineFailed, Gone, Malformed
from bus.jobs import lookup
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.subjects import JobKey, parse_birth
from bus.transport.clock import parse_time
from bus.transport.direct import Stored

#: Bytes of a log beside its audio: birth, lease, terminal entry. And of a block beside its audio.
_LOG_BYTES: Final = 2048
_BLOCK_BYTES: Final = 256
#: A log that had not ended is read again after this part of its age, and after so many seconds at least.
_AGE_PART: Final = 0.25
_MIN_AGAIN_S: Final = 1.0
#: And at most: one that is only born. One with entries, whose end gives back much room, has less.
_MAX_AGAIN_EMPTY_S: Final = 300.0
#: Logs that are read at a time, and logs that are read again in one pass.
_CONCURRENCY: Final = 32
_MAX_AGAIN: Final = 2048


class KnownLog(NamedTuple):
    """A log whose birth was read. Times are Unix seconds as the server stored them."""

    birth_seq: int
    tenant: str
    job: str
    model: str
    born_at: float


class EndedLog(NamedTuple):
    """A log that has its terminal entry. The one that ended first is the least."""

    end_seq: int
    ended_at: float
    #: Of the whole log, about.
    num_bytes: int
    log: KnownLog


class LogIndex:
    """The logs whose births were read, and what is known of their ends. Pure."""

    def __init__(self) -> None:
        #: Births from this sequence on have not been read.
        self.next_seq = 1
        #: By tenant and job, oldest birth first.
        self._known: dict[tuple[str, str], KnownLog] = {}
        #: The ended ones of them.
        self._ends: dict[tuple[str, str], EndedLog] = {}
        #: By tenant, the one that ended first on top. May hold logs that were forgotten since.
        self._by_tenant: dict[str, list[EndedLog]] = {}
        self._bytes: dict[str, int] = {}
        #: Logs that had not ended: (when to read them again, the log).
        self._open: list[tuple[float, KnownLog]] = []

    @property
    def bytes_of(self) -> dict[str, int]:
        """A copy: bytes of the ended logs of each tenant."""
        return dict(self._bytes)

    def born(self, log: KnownLog) -> None:
        """A birth was read. A log of the same name that was known before is forgotten: it was purged meanwhile."""
        self.forget(log.tenant, log.job)
        self._known[log.tenant, log.job] = log
        self.next_seq = max(self.next_seq, log.birth_seq + 1)
        heapq.heappush(self._open, (0.0, log))

    def due(self, now_s: float) -> list[KnownLog]:
        """Take the logs whose end is to be looked for now: new ones, and `_MAX_AGAIN` of those that had none before."""
        found: list[KnownLog] = []
        num_again = 0
        while self._open and self._open[0][0] <= now_s and num_again < _MAX_AGAIN:
            at_s, log = heapq.heappop(self._open)
            if self._known.get((log.tenant, log.job)) is log:
                found.append(log)
                num_again += at_s > 0
        return found

    def not_ended(self, log: KnownLog, now_s: float, again_s: float | None = None) -> None:
        """The log has no end yet: look again later, the later the older it is, after `again_s` at most.

        None: the log has no entry at all, and gives back no room by its end.
        """
        most_s = _MAX_AGAIN_EMPTY_S if again_s is None else again_s
        pause_s = min(max(_AGE_PART * (now_s - log.born_at), _MIN_AGAIN_S), most_s)
        heapq.heappush(self._open, (now_s + pause_s, log))

    def ended(self, ended: EndedLog) -> None:
        """The log has its end."""
        log = ended.log
        self._ends[log.tenant, log.job] = ended
        self._bytes[log.tenant] = self._bytes.get(log.tenant, 0) + ended.num_bytes
        heapq.heappush(self._by_tenant.setdefault(log.tenant, []), ended)

    def forget(self, tenant: str, job: str) -> None:
        """The log is gone, or not what it was. Nothing happens if it is not known."""
        self._known.pop((tenant, job), None)
        ended = self._ends.pop((tenant, job), None)
        if ended is None:
            return
        self._bytes[tenant] -= ended.num_bytes
        if not self._bytes[tenant]:
            del self._bytes[tenant]
            del self._by_tenant[tenant]

    def first_to_go(self, now_s: float, rest_s: float) -> EndedLog | None:
        """Of the tenant whose ended logs take most room, the one that ended first.

        None if that is less than `rest_s` ago: it will have rested soon, and no other tenant pays for it meanwhile.
        """
        if not self._bytes:
            return None
        logs = self._by_tenant[max(self._bytes, key=self._bytes.__getitem__)]
        while self._ends.get((logs[0].log.tenant, logs[0].log.job)) is not logs[0]:
            heapq.heappop(logs)
        return logs[0] if is_rested(logs[0], now_s, rest_s) else None

    def born_before(self, born_before_s: float) -> list[EndedLog]:
        """The ended logs that are older, oldest birth first."""
        found: list[EndedLog] = []
        for name, log in self._known.items():
            if log.born_at >= born_before_s:
                break
            if name in self._ends:
                found.append(self._ends[name])
        return found

    def forget_before(self, born_before_s: float) -> None:
        """The server has removed every log that is older."""
        for name, log in list(self._known.items()):
            if log.born_at >= born_before_s:
                break
            self.forget(*name)


def is_rested(ended: EndedLog, now_s: float, rest_s: float) -> bool:
    """Whether the log ended `rest_s` ago. One that ended long after now did: the server's clock was set back since."""
    return abs(now_s - ended.ended_at) >= rest_s


class _BornJob(msgspec.Struct, frozen=True):
    model: str = ""


class _Born(msgspec.Struct, frozen=True):
    """The part of a birth that the index needs."""

    job: _BornJob = _BornJob()


class EndedLogs:
    """Reads births and ends into an index."""

    def __init__(self, bus: Bus) -> None:
        self.index = LogIndex()
        self._bus = bus
        self._stream = bus.subjects.replies_stream
        #: By model: most logs of a model have the same media, so the first entry of one is read.
        self._channels: dict[str, int] = {}

    async def update(self, born_before_s: float, again_s: float) -> None:
        """Read the births since the last call, up to those at `born_before_s`, and the ends that are due.

        `again_s`: after how long a log with audio and no end is read again, at most. Cancelling loses no log. Raises
        Unreachable.
        """
        await self._read_births(born_before_s)
        now_s = self._bus.clock.server_now()
        self.index.forget_before(now_s - self._bus.settings.replies_max_age_s)
        due = deque(self.index.due(now_s))
        try:
            while due:
                some = list(islice(due, _CONCURRENCY))
                tails = await asyncio.gather(*(self._bus.js.last(self._stream, self.key(log).entries) for log in some))
                for log, tail in zip(some, tails, strict=True):
                    await self._take(log, tail, now_s, again_s)
                    due.popleft()
        finally:
            for log in due:
                self.index.not_ended(log, now_s, again_s)

    async def _take(self, log: KnownLog, tail: Stored | None, now_s: float, again_s: float) -> None:
        """Take note of the log's last entry."""
        if tail is not None and Entry.stored(tail).kind in wire.ENDS:
            self.index.ended(await self._measured(log, tail))
        elif tail is None and now_s - log.born_at > _MIN_AGAIN_S and not await self._is_born(log):
            self.index.forget(log.tenant, log.job)  # another gateway purged it
        else:
            self.index.not_ended(log, now_s, None if tail is None else again_s)

    async def _is_born(self, log: KnownLog) -> bool:
        """Whether the log's birth is there, read from the leader."""
        return await self._bus.js.at(self._stream, log.birth_seq) is not None

    def key(self, log: KnownLog) -> JobKey:
        """The name of the log's job."""
        return self._bus.subjects.job_key(log.tenant, log.job)

    async def last_seq(self, ended: EndedLog) -> int | None:
        """Sequence of the newest message of the log, read from the leader; None if it is not that log any more.

        Messages after it may belong to another log of the same name. Raises Unreachable.
        """
        key = self.key(ended.log)
        newest = await self._bus.js.last(self._stream, key.everything)
        if newest is None:
            return None
        # A process that did not know of the end may have written a lease behind it.
        tail = newest if newest.message.subject == key.entries else await self._bus.js.last(self._stream, key.entries)
        return newest.seq if tail is not None and tail.seq == ended.end_seq else None

    async def _read_births(self, born_before_s: float) -> None:
        subject = self._bus.subjects.all_births
        while True:
            births, num_pending = await self._bus.js.direct.page(self._stream, subject, self.index.next_seq)
            for stored in births:
                born_at = parse_time(stored.stored_at)
                if born_at >= born_before_s:
                    return
                self.index.born(KnownLog(stored.seq, *parse_birth(stored.message.subject), _model(stored), born_at))
            if not births or not num_pending:
                return

    async def _measured(self, log: KnownLog, tail: Stored) -> EndedLog:
        try:
            position = Entry.stored(tail).position
        except Malformed:
            return EndedLog(tail.seq, parse_time(tail.stored_at), _LOG_BYTES, log)
        num_bytes = _LOG_BYTES + position.block * _BLOCK_BYTES
        if position.frame:
            num_bytes += 2 * position.frame * await self._channels_of(log)
        return EndedLog(tail.seq, parse_time(tail.stored_at), num_bytes, log)

    async def _channels_of(self, log: KnownLog) -> int:
        if log.model not in self._channels:
            try:
                media = await lookup.media(self._bus, self.key(log), log.birth_seq)
            except (Gone, EngineFailed, Malformed):
                return 1  # this log has lost its beginning, or is no PCM: the next one may say
            if media is None:
                return 1
            self._channels[log.model] = media[1]
        return self._channels[log.model]


def _model(birth: Stored) -> str:
    try:
        return wire.decode(_Born, birth.message.data).job.model
    except Malformed:
        return ""
