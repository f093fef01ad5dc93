"""Requests per second that several gateways grant together. Pure: no clock, no bus.

The requests of one account follow a generic cell rate algorithm (GCRA): each costs `1 / rate` seconds, the sum of the
costs says how far the account is ahead of real time, and a request is granted while that is within the burst. Every
gateway runs the same sum. It adds its own grants at once, and those of other gateways when they report them, as of the
time at which they were granted. So several gateways that receive requests at the same moment may together grant more
than the burst, but the account is then in debt, and no gateway grants it anything until the debt is paid. Over any
longer time the rate is exact, whichever gateways received the requests.
"""

import math
from typing import Final

import msgspec

from gateway.limits.gossip import AccountGrants

#: An account whose sum ended this many seconds ago is treated as new.
_IDLE_S: Final = 10.0
#: Grants are reported within this many seconds; pauses that ended earlier are dropped, and so are all but the latest.
_MAX_REPORT_DELAY_S: Final = 0.5
_MAX_PAUSES: Final = 32


class Rate(msgspec.Struct, frozen=True):
    """The requests that an account may send."""

    per_s: float
    #: Requests that may come at once, at least 1.
    burst: int

    def shared_by(self, num_gateways: int) -> "Rate":
        """One gateway's fair share, for use while it cannot learn how much the others grant."""
        return Rate(self.per_s / num_gateways, max(1, self.burst // num_gateways))


def rate_of(per_s: float | None, burst: int | None) -> Rate | None:
    """None: no limit. Without a burst, as many requests may come at once as one second allows, at least one."""
    return None if per_s is None else Rate(per_s, max(1, int(per_s) if burst is None else burst))


class Standing(msgspec.Struct, frozen=True):
    """How much of its rate an account has left at one moment."""

    #: Requests that would be granted now.
    left: int
    #: Seconds until one would be granted; 0 if `left`.
    retry_after_s: float
    #: Seconds until the whole burst is available again.
    full_after_s: float


class _Sum(msgspec.Struct):
    """The grants of one account, added up."""

    #: The time at which all grants are paid for.
    paid_at: float
    cost_s: float = 0.0
    #: Granted here since this sum was made.
    num_grants: int = 0
    #: Those of them that are not reported yet, and when the first of these was granted.
    num_unreported: int = 0
    first_at: float = 0.0
    #: By gateway: the number of grants that it reported.
    reported: dict[str, int] = {}
    #: [end, length] of the latest intervals in which everything was paid for. A grant that is reported late may lie
    #: before the end of one.
    pauses: list[list[float]] = []

    def add(self, at_s: float, owed_s: float) -> None:
        """Count grants of `owed_s` seconds given at `at_s`, which may be some time ago."""
        for pause in self.pauses:
            if pause[0] > at_s:
                filled_s = min(pause[1], pause[0] - at_s, owed_s)
                pause[1] -= filled_s
                owed_s -= filled_s
        if at_s > self.paid_at:
            recent = [pause for pause in self.pauses if pause[0] > at_s - _MAX_REPORT_DELAY_S]
            self.pauses = [*recent[1 - _MAX_PAUSES :], [at_s, at_s - self.paid_at]]
            self.paid_at = at_s
        self.paid_at += owed_s


class Rates:
    """One gateway's sums. Times are seconds of one clock of this process that never goes back."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}
        self._unreported: set[str] = set()

    def standing(self, account: str, rate: Rate, now_s: float) -> Standing:
        """How much of `rate` the account has left."""
        found = self._sums.get(account)
        ahead_s = max(0.0, found.paid_at - now_s) if found is not None else 0.0
        # A client that waits exactly `retry_after_s` must not be refused for the last bit of a sum of floats.
        left = math.floor(rate.burst - ahead_s * rate.per_s + 1e-6)
        if left >= 1:
            return Standing(left, 0.0, ahead_s)
        return Standing(0, max(0.0, ahead_s - (rate.burst - 1) / rate.per_s), ahead_s)

    def grant(self, account: str, rate: Rate, now_s: float) -> None:
        """Count a request that is granted here, whether it is within the rate or not."""
        found = self._sums.get(account)
        if found is None:
            found = self._sums[account] = _Sum(now_s)
        found.cost_s = 1.0 / rate.per_s
        found.add(now_s, found.cost_s)
        found.num_grants += 1
        if not found.num_unreported:
            found.first_at = now_s
            self._unreported.add(account)
        found.num_unreported += 1

    def take_changes(self, now_s: float, *, full: bool) -> list[AccountGrants]:
        """The accounts with grants since the last call; `full`: all accounts."""
        changes = [self._grants_of(account, now_s) for account in (self._sums if full else self._unreported)]
        for account in self._unreported:
            self._sums[account].num_unreported = 0
        self._unreported.clear()
        return changes

    def _grants_of(self, account: str, now_s: float) -> AccountGrants:
        found = self._sums[account]
        first_s = now_s - found.first_at if found.num_unreported else 0.0
        return AccountGrants(
            account, found.num_grants, found.num_unreported, found.cost_s, first_s, found.paid_at - now_s
        )

    def merge(self, gateway: str, grants: list[AccountGrants], sent_s: float, *, full: bool) -> None:
        """Count the grants of another gateway, which it reported at `sent_s`; `full`: it reported all its accounts."""
        for each in grants:
            found = self._sums.get(each.account)
            if found is None:
                if each.num_new == 0 and each.ahead_s <= 0:
                    continue
                found = self._sums[each.account] = _Sum(sent_s - each.first_s, each.cost_s)
            before = found.reported.get(gateway)
            found.reported[gateway] = each.num_grants
            # The difference of the totals covers lost messages. A gateway that restarted its total, or whose first
            # report this is, is counted by its new grants.
            num_new = each.num_new if before is None else max(each.num_new, each.num_grants - before)
            if num_new:
                found.add(sent_s - each.first_s, num_new * each.cost_s)
            if full and before is None:
                found.paid_at = max(found.paid_at, sent_s + each.ahead_s)

    def forget_idle(self, now_s: float) -> None:
        """Drop the accounts that stand as new ones do."""
        for account, found in list(self._sums.items()):
            if found.paid_at < now_s - _IDLE_S and not found.num_unreported:
                del self._sums[account]

    def __len__(self) -> int:
        """Accounts that are not idle."""
        return len(self._sums)
