"""A bounded amount of bytes, places or connections that several owners share. Pure.

An owner may grow while it holds at most `GREED` times its weight of what would stay free: one owner alone gets eight
ninths, two get eight seventeenths each, and an owner that comes late always finds room, without anything being taken
away from the others. These are the dynamic thresholds of Choudhury and Hahne, "Dynamic queue length thresholds for
shared-memory packet switches", IEEE/ACM Transactions on Networking 6 (1998). Work that waits for its turn instead of
being refused is shared by `bus.turns`.
"""

import math
from collections.abc import Collection
from typing import Final, NamedTuple

#: The most that one owner may hold, in multiples of its weight and of the free rest.
GREED: Final = 8


class Refusal(NamedTuple):
    """Why an amount does not fit. All values are in the pool's unit."""

    asked: float
    #: By the owner, before.
    held: float
    #: The most that the owner may hold at present.
    allowed: float
    #: Whether the owner's own share is used up; otherwise the pool is full for every owner.
    is_own: bool


class FairPool:
    """Amounts that owners hold, bounded in all by `capacity`. Not for several threads."""

    def __init__(self, capacity: float) -> None:
        """`capacity`: the most that all owners may hold, in a unit of the caller's choice."""
        self.capacity = capacity
        self._held: dict[str, float] = {}
        self._total = 0.0

    @property
    def free(self) -> float:
        """The rest of the capacity; negative while more is held than that, which `add` permits."""
        return self.capacity - self._total

    @property
    def total(self) -> float:
        """Held by all owners."""
        return self._total

    @property
    def owners(self) -> dict[str, float]:
        """A copy: held by each owner."""
        return dict(self._held)

    def held(self, owner: str) -> float:
        """Held by `owner`."""
        return self._held.get(owner, 0.0)

    def refusal(self, owner: str, amount: float, weight: float = 1.0) -> Refusal | None:
        """Why `owner` may not hold `amount` more; None if it may.

        An owner that holds nothing is refused only what is not free at all.
        """
        held, free = self.held(owner), self.free
        if held == 0:
            return None if amount <= free else Refusal(amount, 0.0, max(0.0, free), is_own=False)
        allowed = share_of(held, free, weight)
        if held + amount <= allowed:
            return None
        return Refusal(amount, held, allowed, is_own=True)

    def take(self, owner: str, amount: float, weight: float = 1.0) -> Refusal | None:
        """Hold `amount` more for `owner` and return None, or change nothing and return why it does not fit."""
        refusal = self.refusal(owner, amount, weight)
        if refusal is None:
            self.add(owner, amount)
        return refusal

    def add(self, owner: str, amount: float) -> None:
        """Hold `amount` more for `owner`, whether it fits or not: it is in use already."""
        self._held[owner] = self.held(owner) + amount
        self._total += amount

    def give_back(self, owner: str, amount: float) -> None:
        """`owner` holds `amount` less. Raises ValueError if it does not hold as much."""
        left = self.held(owner) - amount
        if left < 0:
            raise ValueError(f"{owner!r} holds {self.held(owner):g} and cannot give back {amount:g}")
        self._total -= amount
        if left:
            self._held[owner] = left
        else:
            self._held.pop(owner, None)
        if not self._held:
            self._total = 0.0  # no rounding errors of earlier amounts stay behind


def share_of(held: float, free: float, weight: float = 1.0) -> float:
    """The most that an owner of `held` may hold at present: the part of `held + free` that leaves it with `GREED` times
    its weight of the rest.
    """
    return max(0.0, held + free) * GREED * weight / (GREED * weight + 1)


def equal_part(amounts: Collection[float], capacity: float) -> float:
    """The part at which to cut every amount so that the sum is `capacity`; infinite if the sum is no more than that.

    This is max-min fairness: an owner with less than the part keeps all it has, and only the largest ones are cut.
    Without capacity the part is 0, also of no amounts.
    """
    if capacity <= 0:
        return 0.0
    left, most = capacity, sorted(amounts)
    for place, amount in enumerate(most):
        part = left / (len(most) - place)
        if amount > part:
            return part
        left -= amount
    return math.inf
