"""A bounded amount of this process that tenants share, with the errors, log lines and metric of its refusals."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bus.errors import JobError, Overloaded, TooMany
from bus.fair_pool import FairPool, Refusal
from bus.telemetry.logging import logger

log = logger(__name__)

#: Refusals of one owner are logged once in this many seconds; the metric counts each.
_QUIET_S: Final = 10.0
#: Owners whose last line is remembered.
_MAX_QUIET: Final = 1000
_RETRY_AFTER_S: Final = 1.0


class Pool:
    """A `FairPool` of one gateway. Owners are `Caller.owner`."""

    def __init__(self, name: str, unit: str, capacity: float) -> None:
        """`name`: in errors, logs and metrics, as in `buffer_bytes`. `unit`: of the amounts, in the plural."""
        self.name = name
        self._unit = unit
        self._shares = FairPool(capacity)
        self._logged_at: dict[str, float] = {}

    @property
    def capacity(self) -> float:
        """The most that all owners may hold."""
        return self._shares.capacity

    @property
    def total(self) -> float:
        """Held by all owners."""
        return self._shares.total

    def held(self, owner: str) -> float:
        """Held by `owner`."""
        return self._shares.held(owner)

    def take(self, owner: str, amount: float) -> None:
        """Hold `amount` more for `owner`. Raises TooMany for an owner at its share, Overloaded if the pool is full."""
        refusal = self.try_take(owner, amount)
        if refusal is not None:
            raise self.refused(owner, refusal)

    def refusal(self, owner: str, amount: float) -> Refusal | None:
        """Why `owner` may not hold `amount` more; None if it may."""
        return self._shares.refusal(owner, amount)

    @contextmanager
    def holding(self, owner: str, amount: float) -> Iterator[None]:
        """`take` for the length of the block."""
        self.take(owner, amount)
        try:
            yield
        finally:
            self.give_back(owner, amount)

    def try_take(self, owner: str, amount: float) -> Refusal | None:
        """Hold `amount` more for `owner` and return None, or change nothing and return why it does not fit."""
        return self._shares.take(owner, amount)

    def add(self, owner: str, amount: float) -> None:
        """Hold `amount` more for `owner`, whether it fits or not: it is in use already."""
        self._shares.add(owner, amount)

    def give_back(self, owner: str, amount: float) -> None:
        """`owner` holds `amount` less."""
        self._shares.give_back(owner, amount)

    def refused(self, owner: str, refusal: Refusal) -> JobError:
        """The error of a request that is refused for `refusal`; logged and counted."""
        self._log(owner, refusal)
        whole = f"{self.capacity:.0f} {self._unit}, which all its callers share"
        if not refusal.is_own:
            return Overloaded(f"{self.name}: {refusal.asked:.0f} more do not fit; this gateway has {whole}; try again")
        scope, _, name = owner.partition("-")
        error = TooMany(
            f"{self.name}: {scope} {name} holds {refusal.held:.0f} and cannot have {refusal.asked:.0f} more: its share "
            f"is {refusal.allowed:.0f} at present; this gateway has {whole}"
        )
        error.limit = self.name
        error.scope = scope
        error.allowed = float(round(refusal.allowed))
        error.left = max(0.0, error.allowed - refusal.held)
        error.retry_after_s = _RETRY_AFTER_S
        return error

    def _log(self, owner: str, refusal: Refusal) -> None:
        fields = {"owner": owner, **refusal._asdict(), "capacity": self.capacity}
        now_s = time.monotonic()
        if now_s - self._logged_at.get(owner, -_QUIET_S) < _QUIET_S:
            log.debug("pool.refused", pool=self.name, **fields)
            return
        if len(self._logged_at) >= _MAX_QUIET:
            self._logged_at.clear()
        self._logged_at[owner] = now_s
        log.warning("pool.refused", pool=self.name, **fields)
