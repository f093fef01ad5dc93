"""Measures, for the log, how long a job that was taken from a dead worker makes no entries. No part of the protocol."""

import asyncio
import time
from typing import Final

import msgspec

from bus.jobs.entry import Entry
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.connection import Connection
from bus.transport.parser import Message

log = logger(__name__)

#: How long to wait for the next entry of one job.
_WAIT_S: Final = 30.0
#: Jobs timed at once; further ones are taken away untimed.
_MAX_TIMERS: Final = 1000


class Death(msgspec.Struct, frozen=True):
    """A worker's death as one gateway found it. Monotonic seconds."""

    worker: str
    found_at: float
    #: Its last pong here; None if there was none.
    pong_at: float | None

    @classmethod
    def now(cls, worker: str, pong_at: float | None) -> "Death":
        """The death of a worker that is found now."""
        return cls(worker, time.monotonic(), pong_at)


class TakeoverTimers:
    """The takeovers of this process whose next entry has not come yet."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._timers: set[TakeoverTimer] = set()

    def __len__(self) -> int:
        return len(self._timers)

    def start(self, key: JobKey, death: Death) -> "TakeoverTimer | None":
        """Follow a job from before it is taken away; None if too many are followed already."""
        if len(self._timers) >= _MAX_TIMERS:
            return None
        timer = TakeoverTimer(self._connection, key, death, self._timers)
        self._timers.add(timer)
        return timer

    def close(self) -> None:
        """Stop all timers without a log line."""
        for timer in list(self._timers):
            timer.close()


class TakeoverTimer:
    """Lives until the first entry of the job's next attempt, its end, or `_WAIT_S`; then it writes one log line."""

    def __init__(self, connection: Connection, key: JobKey, death: Death, timers: "set[TakeoverTimer]") -> None:
        self._key = key
        self._death = death
        self._timers = timers
        #: Arrival (monotonic seconds) and entry of the next attempt; it may come before `taken` is called.
        self._next: tuple[float, Entry] | None = None
        self._is_taken = False
        self._subscription = connection.subscribe(key.live, self._arrived)
        self._timeout = asyncio.get_running_loop().call_later(_WAIT_S, self._timed_out)

    def taken(self) -> None:
        """This process took the job away: log its next entry."""
        self._is_taken = True
        self._log_if_complete()

    def close(self) -> None:
        """Stop without a log line. Idempotent."""
        self._subscription.close()
        self._timeout.cancel()
        self._timers.discard(self)

    def _arrived(self, message: Message) -> None:
        entry = Entry.live(message)
        # Entries of the dead worker may still be on the wire: only a new attempt has `started`.
        if self._next is None and (entry.started is not None or entry.is_end):
            self._next = (time.monotonic(), entry)
            self._log_if_complete()

    def _log_if_complete(self) -> None:
        if not self._is_taken or self._next is None:
            return
        (at, entry), death = self._next, self._death
        log.info(
            "takeover.done",
            job=self._key.job,
            tenant=self._key.tenant,
            worker=death.worker,
            entry=entry.kind,
            by=entry.started.worker if entry.started is not None else None,
            seconds=round(at - death.found_at, 3),
            since_pong_s=round(at - death.pong_at, 3) if death.pong_at is not None else None,
        )
        self.close()

    def _timed_out(self) -> None:
        if self._is_taken:
            log.warning(
                "takeover.not_observed",
                job=self._key.job,
                tenant=self._key.tenant,
                worker=self._death.worker,
                waited_s=_WAIT_S,
            )
        self.close()
