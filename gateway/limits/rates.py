"""Requests per second that several gateways grant together. Pure: no clock, no bus.

One account's requests are a generic cell rate algorithm: each costs `1 / rate` seconds, their sum is how far the
account is ahead of real time, and one is granted while that is within what the burst allows. Every gateway runs the
same sum. It adds its own grants at once and those of the others when it is told of them, as of the time when they were
given. So several gateways that are asked at the same moment may together grant more than the burst, but the account
never keeps that: it is in debt, and nobody grants it anything until that is paid. Over any longer time the rate is
exact, whoever was asked.
"""

import math
from typing import Final

import msgspec

from gateway.limits.gossip import Spent

#: An account whose sum is this old is as good as new.
_IDLE_S: Final = 10.0
#: Grants are told of within so long, at most so many pauses ago.
_LATE_S: Final = 0.5
_MAX_PAUSES: Final = 32


class Rate(msgspec.Struct, frozen=True):
    """What an account may ask for."""

    per_s: float
    #: Requests that may come at once, at least 1.
    burst: int

    def shared_by(self, gateways: int) -> "Rate":
        """One gateway's fair part, for when it cannot know what the others grant."""
        return Rate(self.per_s / gateways, max(1, self.burst // gateways))


def rate_of(per_s: float | None, burst: int | None) -> Rate | None:
    """None: no limit. Without a burst, as many at once as a second brings."""
    return None if per_s is None else Rate(per_s, max(1, int(per_s) if burst is None else burst))


class Standing(msgspec.Struct, frozen=True):
    """Where an account stands at a moment."""

    #: Requests that would be granted now.
    left: int
    #: Seconds until one would be; 0 if `left`.
    retry_after_s: float
    #: Seconds until the whole burst would be there again.
    full_after_s: float


class _Sum(msgspec.Struct):
    #: The time at which all that was granted is paid for.
    paid_at: float
    cost_s: float = 0.0
    #: Granted here since this sum was made.
    grants: int = 0
    #: Of those, not yet told, and when the first of them was given.
    more: int = 0
    first_at: float = 0.0
    #: By gateway: the grants it told of.
    told: dict[str, int] = {}
    #: [end, length] of the latest times when everything was paid for. A grant of which we hear late may lie before one.
    pauses: list[list[float]] = []

    def add(self, at_s: float, owed_s: float) -> None:
        """Count grants given at `at_s`, which may be some time ago."""
        for pause in self.pauses:
            if pause[0] > at_s:
                filled_s = min(pause[1], pause[0] - at_s, owed_s)
                pause[1] -= filled_s
                owed_s -= filled_s
        if at_s > self.paid_at:
            recent = [pause for pause in self.pauses if pause[0] > at_s - _LATE_S]
            self.pauses = [*recent[1 - _MAX_PAUSES :], [at_s, at_s - self.paid_at]]
            self.paid_at = at_s
        self.paid_at += owed_s


class Rates:
    """One gateway's sums. Times are seconds of one clock of its own that never goes back."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}
        self._untold: set[str] = set()

    def standing(self, account: str, rate: Rate, now_s: float) -> Standing:
        found = self._sums.get(account)
        ahead_s = max(0.0, found.paid_at - now_s) if found is not None else 0.0
        # An account that waits exactly until it may must not be refused for the last bit of a sum of floats.
        left = math.floor(rate.burst - ahead_s * rate.per_s + 1e-6)
        if left >= 1:
            return Standing(left, 0.0, ahead_s)
        return Standing(0, max(0.0, ahead_s - (rate.burst - 1) / rate.per_s), ahead_s)

    def grant(self, account: str, rate: Rate, now_s: float) -> None:
        """Count a request that is granted here, whether it fits or not."""
        found = self._sums.get(account)
        if found is None:
            found = self._sums[account] = _Sum(now_s)
        found.cost_s = 1.0 / rate.per_s
        found.add(now_s, found.cost_s)
        found.grants += 1
        if not found.more:
            found.first_at = now_s
            self._untold.add(account)
        found.more += 1

    def news(self, now_s: float, *, everything: bool) -> list[Spent]:
        """What was granted since the last call; `everything`: the standing of all accounts."""
        told = [self._spent(account, now_s) for account in (self._sums if everything else self._untold)]
        for account in self._untold:
            self._sums[account].more = 0
        self._untold.clear()
        return told

    def _spent(self, account: str, now_s: float) -> Spent:
        found = self._sums[account]
        first_s = now_s - found.first_at if found.more else 0.0
        return Spent(account, found.grants, found.more, found.cost_s, first_s, found.paid_at - now_s)

    def hear(self, gateway: str, spent: list[Spent], said_s: float, *, everything: bool) -> None:
        """Count what another gateway granted, as it said at `said_s`."""
        for each in spent:
            found = self._sums.get(each.account)
            if found is None:
                if each.more == 0 and each.ahead_s <= 0:
                    continue
                found = self._sums[each.account] = _Sum(said_s - each.first_s, each.cost_s)
            before = found.told.get(gateway)
            found.told[gateway] = each.grants
            # The sum makes up for lost messages; a teller that began anew, or is new to us, tells what is new itself.
            more = each.more if before is None else max(each.more, each.grants - before)
            if more:
                found.add(said_s - each.first_s, more * each.cost_s)
            if everything and before is None:
                found.paid_at = max(found.paid_at, said_s + each.ahead_s)

    def forget_idle(self, now_s: float) -> None:
        """Drop what is as good as new."""
        for account, found in list(self._sums.items()):
            if found.paid_at < now_s - _IDLE_S and not found.more:
                del self._sums[account]

    def __len__(self) -> int:
        return len(self._sums)
