"""Audio charged to accounts, by the day (UTC, the bus's clock): as the ledger says, and as others heard it say."""

from datetime import UTC, datetime, timedelta
from typing import Final

from bus import wire
from bus.errors import BusError
from bus.jobs import lookup as find
from bus.jobs.client import Bus
from bus.subjects import JobKey
from gateway.limits.gossip import Used
from gateway.limits.usage_ledger import Ledger

_MS: Final = 1000


class NoEndYet(BusError):
    """The job has left the queue, and its log says nothing of its end so far."""


class Audio:
    def __init__(self, bus: Bus) -> None:
        self._bus, self._ledger = bus, Ledger(bus)
        self._day = ""
        #: Milliseconds of `_day`, by account. A counter only grows, so of two figures the larger is the newer.
        self._used: dict[str, int] = {}
        self._untold: set[str] = set()

    async def used_s(self, account: str) -> float:
        """Seconds charged today. Reads the ledger once a day and account, listens afterwards. Raises Unreachable."""
        day = self._today()
        if account not in self._used:
            self._learn(day, account, await self._ledger.used_ms(day, account))
        return self._used.get(account, 0) / _MS

    def seconds_left_of_day(self) -> float:
        now = datetime.fromtimestamp(self._bus.clock.now(), UTC)
        tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        return (tomorrow - now).total_seconds()

    async def charge(self, account: str, name: JobKey) -> tuple[int, int]:
        """Charge an ended job for all the audio in its log; (its milliseconds, those of the day so far).

        However it ended: who cancels has heard what was made. Charging it again within two minutes changes nothing.
        Raises NoEndYet, Unreachable, ApiError; Gone, Malformed and EngineFailed for a log that tells no length.
        """
        ms = round(await self._made_s(name) * _MS)
        day = self._today()
        if not ms:
            return 0, self._used.get(account, 0)
        total_ms = await self._ledger.charge(day, account, name.tenant, name.job, ms)
        if self._learn(day, account, total_ms):
            self._untold.add(account)
        return ms, total_ms

    async def _made_s(self, name: JobKey) -> float:
        tail = await self._bus.logs.tail(name)
        if tail is None:
            return 0.0
        if tail.kind == "done":
            return wire.decode(wire.Done, tail.payload).seconds
        if not tail.is_end:
            raise NoEndYet(f"{name.entries} has no end yet")
        born = await self._bus.logs.birth(name)
        media = None if born is None else await find.media(self._bus, name, born[0])
        return 0.0 if media is None else tail.position.frame / media[0]

    # What gateways tell each other

    def news(self, *, everything: bool) -> list[Used]:
        day = self._today()
        told = [Used(account, day, self._used[account]) for account in (self._used if everything else self._untold)]
        self._untold.clear()
        return told

    def hear(self, used: list[Used]) -> None:
        self._today()
        for each in used:
            self._learn(each.day, each.account, each.ms)

    def _learn(self, day: str, account: str, ms: int) -> bool:
        """False for what is old, or of another day."""
        if day != self._day or ms < self._used.get(account, 0):
            return False
        self._used[account] = ms
        return True

    def _today(self) -> str:
        day = datetime.fromtimestamp(self._bus.clock.now(), UTC).date().isoformat()
        if day != self._day:
            self._day = day
            self._used.clear()
            self._untold.clear()
        return day
