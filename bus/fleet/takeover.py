"""How long a job that was taken from a dead worker stays silent, told by the gateway that took it away."""

import asyncio
import time

import msgspec

from bus.jobs.entry import Entry
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.connection import Connection
from bus.transport.parser import Message

log = logger(__name__)

#: How long to listen for the next entry, and to how many jobs at most.
_LISTEN_S = 30.0
_MAX_WATCHES = 1000


class Death(msgspec.Struct, frozen=True):
    """Of a worker, as one gateway found it. Monotonic seconds."""

    worker: str
    found_at: float
    ponged_at: float | None


class Takeovers:
    """The takeovers of this process whose next entry has not come yet."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watches: set[_Watch] = set()

    def begin(self, key: JobKey, death: Death) -> "_Watch | None":
        """Listen to a job from before it is taken away; None if too many are listened to already."""
        if len(self._watches) >= _MAX_WATCHES:
            return None
        watch = _Watch(self._connection, key, death, self._watches)
        self._watches.add(watch)
        return watch

    def close(self) -> None:
        for watch in list(self._watches):
            watch.close()


class _Watch:
    """Lives until the first entry of the job's next attempt, its end, or `_LISTEN_S`."""

    def __init__(self, connection: Connection, key: JobKey, death: Death, among: "set[_Watch]") -> None:
        self._key, self._death, self._among = key, death, among
        self._seen: tuple[float, Entry] | None = None
        self._is_taken = False
        self._subscription = connection.subscribe(key.live, self._arrived)
        self._timer = asyncio.get_running_loop().call_later(_LISTEN_S, self._give_up)

    def taken(self) -> None:
        """The job was taken away by us: what follows is to be told."""
        self._is_taken = True
        self._tell()

    def close(self) -> None:
        """Idempotent."""
        self._subscription.close()
        self._timer.cancel()
        self._among.discard(self)

    def _arrived(self, message: Message) -> None:
        entry = Entry.live(message)
        # Not the dead worker's last words, which may still be on the wire: only a new attempt says that it starts.
        if self._seen is None and (entry.started is not None or entry.is_end):
            self._seen = (time.monotonic(), entry)
            self._tell()

    def _tell(self) -> None:
        if not self._is_taken or self._seen is None:
            return
        (at, entry), death = self._seen, self._death
        log.info(
            "takeover.done",
            job=self._key.job,
            tenant=self._key.tenant,
            worker=death.worker,
            entry=entry.kind,
            by=entry.started.worker if entry.started is not None else None,
            seconds=round(at - death.found_at, 3),
            since_pong_s=round(at - death.ponged_at, 3) if death.ponged_at is not None else None,
        )
        self.close()

    def _give_up(self) -> None:
        if self._is_taken:
            log.warning(
                "takeover.not_observed",
                job=self._key.job,
                tenant=self._key.tenant,
                worker=self._death.worker,
                waited_s=_LISTEN_S,
            )
        self.close()
