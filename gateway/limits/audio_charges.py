"""Audio charged to accounts, by the day (UTC, the bus's clock): as the ledger and the other gateways report it."""

from datetime import UTC, datetime, timedelta
from typing import Final

from bus import wire
from bus.errors import BusError
from bus.jobs import lookup
from bus.jobs.client import Bus
from bus.subjects import JobKey
from gateway.limits.gossip import AudioUsed
from gateway.limits.usage_ledger import UsageLedger

_MS: Final = 1000


class NotEnded(BusError):
    """The job has left the queue, but its log has no terminal entry yet."""


class AudioCharges:
    """The audio that accounts used today, and the charges that add to it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._ledger = UsageLedger(bus)
        self._day = ""
        #: Milliseconds of `_day`, by account. A counter only grows, so the larger of two figures is the newer one.
        self._used_ms: dict[str, int] = {}
        self._unreported: set[str] = set()

    async def used_s(self, account: str) -> float:
        """Seconds charged today. Reads the ledger once per day and account, then follows gossip. Raises Unreachable."""
        day = self._today()
        if account not in self._used_ms:
            self._update(day, account, await self._ledger.used_ms(day, account))
        return self._used_ms.get(account, 0) / _MS

    def seconds_left_of_day(self) -> float:
        """Seconds until midnight UTC."""
        now = datetime.fromtimestamp(self._bus.clock.now(), UTC)
        tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        return (tomorrow - now).total_seconds()

    async def charge(self, account: str, key: JobKey) -> tuple[int, int]:
        """Charge an ended job for all the audio in its log; (its milliseconds, those of the account today).

        The outcome does not matter: a cancelled job is charged for the audio made before. Charging a job again within
        2 min changes nothing. Raises NotEnded, Unreachable, ApiError; Gone, Malformed and EngineFailed for a log from
        which no length can be read.
        """
        ms = round(await self._made_s(key) * _MS)
        day = self._today()
        if not ms:
            return 0, self._used_ms.get(account, 0)
        total_ms = await self._ledger.charge(day, account, key.tenant, key.job, ms)
        if self._update(day, account, total_ms):
            self._unreported.add(account)
        return ms, total_ms

    async def _made_s(self, key: JobKey) -> float:
        """Seconds of audio in the log."""
        tail = await self._bus.logs.tail(key)
        if tail is None:
            return 0.0
        if tail.kind == "done":
            return wire.decode(wire.Done, tail.payload).seconds
        if not tail.is_end:
            raise NotEnded(f"{key.entries} has no terminal entry yet")
        birth = await self._bus.logs.birth(key)
        media = None if birth is None else await lookup.media(self._bus, key, birth[0])
        return 0.0 if media is None else tail.position.frame / media[0]

    def take_changes(self, *, full: bool) -> list[AudioUsed]:
        """The accounts charged since the last call; `full`: all that are known."""
        day = self._today()
        accounts = self._used_ms if full else self._unreported
        changes = [AudioUsed(account, day, self._used_ms[account]) for account in accounts]
        self._unreported.clear()
        return changes

    def merge(self, used: list[AudioUsed]) -> None:
        """Apply the report of another gateway."""
        self._today()
        for each in used:
            self._update(each.day, each.account, each.ms)

    def _update(self, day: str, account: str, ms: int) -> bool:
        """False for a figure that is older, or of another day."""
        if day != self._day or ms < self._used_ms.get(account, 0):
            return False
        self._used_ms[account] = ms
        return True

    def _today(self) -> str:
        day = datetime.fromtimestamp(self._bus.clock.now(), UTC).date().isoformat()
        if day != self._day:
            self._day = day
            self._used_ms.clear()
            self._unreported.clear()
        return day
