"""Each tenant's bytes of JOBS, as far as they can be known without reading the queue. Pure.

JetStream counts the messages of each subject, and a job's subject names its tenant: one request, whose cost does not
grow with the queue, gives the number of each tenant's live jobs, by whichever gateway they came. Their size is
estimated from the requests that this gateway has seen, and the estimates are scaled so that their sum is the stream's.
A large message among small ones weighs by its size, so that short-lived small jobs do not hide large ones that wait.
"""

from collections.abc import Mapping
from typing import Final

from bus.fair_pool import FairPool, Refusal

#: Weight that an observation keeps at each later one of its tenant.
_KEEP: Final = 0.99
#: Tenants whose sizes are remembered.
_MAX_TENANTS: Final = 10_000


class _Sizes:
    """Sizes of one tenant's messages; later ones weigh more."""

    __slots__ = ("_squares", "_sum")

    def __init__(self) -> None:
        self._sum = 0.0
        self._squares = 0.0

    def add(self, num_bytes: int) -> None:
        self._sum = _KEEP * self._sum + num_bytes
        self._squares = _KEEP * self._squares + num_bytes * num_bytes

    @property
    def mean(self) -> float:
        """Of the message that holds a byte chosen at random."""
        return self._squares / self._sum


class QueueBytes:
    """The estimate, and the share of each tenant. Not for several threads."""

    def __init__(self, capacity_bytes: int) -> None:
        """`capacity_bytes`: the most that all tenants may fill."""
        self._pool = FairPool(capacity_bytes)
        self._sizes: dict[str, _Sizes] = {}

    @property
    def capacity_bytes(self) -> int:
        """The most that all tenants may fill."""
        return int(self._pool.capacity)

    @property
    def total_bytes(self) -> int:
        """Of all tenants, with those taken since."""
        return int(self._pool.total)

    def observe(self, tenant: str, num_bytes: int) -> None:
        """Note the size of a message of `tenant`."""
        if tenant not in self._sizes and len(self._sizes) >= _MAX_TENANTS:
            del self._sizes[next(iter(self._sizes))]
        self._sizes.setdefault(tenant, _Sizes()).add(num_bytes)

    def update(self, total_bytes: int, counts: Mapping[str, int]) -> None:
        """`total_bytes` are in the queue, and so many messages of each tenant."""
        means = {tenant: self._sizes[tenant].mean for tenant in counts if tenant in self._sizes}
        known_bytes = sum(counts[tenant] * mean for tenant, mean in means.items())
        num_unknown = sum(count for tenant, count in counts.items() if tenant not in means)
        # Of tenants without an observation: the rest, or what is usual if that is nothing.
        usual = total_bytes / max(1, sum(counts.values()))
        rest = max(0.0, total_bytes - known_bytes) / num_unknown if num_unknown else 0.0
        estimates = {tenant: count * means.get(tenant, rest or usual) for tenant, count in counts.items()}
        scale = total_bytes / (sum(estimates.values()) or 1.0)
        pool = FairPool(self._pool.capacity)
        for tenant, estimate in estimates.items():
            if estimate:
                pool.add(tenant, estimate * scale)
        self._pool = pool

    def refusal(self, tenant: str, num_bytes: int) -> Refusal | None:
        """Why a message of `tenant` does not fit at present; None if it does."""
        return self._pool.refusal(tenant, num_bytes)

    def take(self, tenant: str, num_bytes: int) -> Refusal | None:
        """Count a message that is about to be queued and return None, or return why it does not fit."""
        return self._pool.take(tenant, num_bytes)
