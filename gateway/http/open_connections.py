"""The open connections of one gateway: how many there may be, how addresses share them, and which one ends for another.

A connection that waits for a request costs its client nothing, so only a bound of the process keeps descriptors free.
At the bound, an idle connection ends for a new one: of the address that has most, the one that has been idle longest.
"""

import heapq
import resource
import time
from typing import Final, Protocol

from aiohttp import web

from bus.errors import Overloaded
from bus.fair_pool import Refusal, share_of
from bus.telemetry.logging import logger
from gateway.access.addresses import Addresses
from gateway.http.sampling import Sample
from gateway.limits.pools import Pool

log = logger(__name__)

#: Connections beyond the bound that are served on these paths only.
NUM_SPARE: Final = 32
PROBES: Final = frozenset({"/livez", "/readyz", "/health", "/metrics"})
#: Descriptors for all other uses: the bus, logs and files of keys; tries of webhooks and lookups of their receivers;
#: connections that were just accepted, and those that ended for them and are not closed yet.
_OTHER_DESCRIPTORS: Final = 64 + 128 + 64 + 64
#: Idle connections that one search finds, as a part of the addresses: a search looks at all of them.
_FOUND_PART: Final = 64
#: Those of one address, as a part of its connections.
_OF_ONE_PART: Final = 8
#: Connections that a search looks at.
_MAX_LOOKS: Final = 4000
#: Seconds without another search, after one that found none.
_SEARCH_S: Final = 0.05


class Evictable(Protocol):
    """A connection, as far as its end for another one is concerned."""

    @property
    def idle_since(self) -> float | None:
        """Loop time since which it has had no request; None: it has one."""

    def evict(self) -> None:
        """Close it. It counts no more when this returns."""


class OpenConnections:
    """The connections of one process. `Connection` itself adds and removes itself: that is in the way of each."""

    def __init__(self, capacity: int, addresses: Addresses, per_address: int | None = None) -> None:
        """`capacity`: connections that are served, `NUM_SPARE` not counted. `per_address`: of one address, at most.

        The peers that `addresses` trusts share the capacity only.
        """
        self.capacity = capacity
        self.by_site: dict[str, dict[Evictable, None]] = {}
        self.total = 0
        #: Up to this many, every connection is admitted without a look.
        self.num_calm = 0 if per_address is not None else capacity // 2
        #: Connections beyond the capacity.
        self.spare: set[Evictable] = set()
        #: Requests in progress by tenant, or by address of those without one.
        self.busy: dict[str, int] = {}
        #: Words its refusals.
        self._pool = Pool("connections", "connections", capacity)
        self._addresses = addresses
        self._per_address = per_address
        self._victims: list[tuple[float, Evictable]] = []
        self._search_at = 0.0
        self._refusals = Sample()
        self._evictions = Sample()

    def admit(self, site: str, address: str) -> str | None:
        """Make room for one more connection from `address` of `site`; None, or why there is none: `address`, `full`."""
        if not self._addresses.trusts(address) and not self._may_grow(site):
            return None if self._evict_first(self._idle(self.by_site.get(site, ()))) else self._refused("address", site)
        if self.total < self.capacity or self._evict_any():
            return None
        if len(self.spare) < NUM_SPARE or self._evict_first(self._idle(self.spare)):
            return None
        return self._refused("full", site)

    def check_spare(self, request: web.Request) -> None:
        """Raises Overloaded for a request over a spare connection while there are too many, unless it is a probe."""
        connection: object = request.protocol
        is_probe = request.path.removesuffix("/") in PROBES
        if self.total <= self.capacity or is_probe or connection not in self.spare:
            return
        raise Overloaded(
            f"connections: {self.total} are open; this gateway has {self.capacity}, which all its callers share"
        )

    def check_share(self, owner: str, num_busy: int) -> None:
        """Raises TooMany if `owner` (`Caller.owner`) may not have `num_busy` requests in progress.

        A request in progress, as a stream or a WebSocket, keeps its connection from ending for another.
        """
        free = self.capacity - sum(self.busy.values())
        allowed = share_of(num_busy - 1, free + 1)
        if 1 < num_busy > allowed:
            raise self._pool.refused(owner, Refusal(1, num_busy - 1, allowed, is_own=True))

    def evict_any(self) -> None:
        """End an idle connection, if there is one: the process has no descriptor left for another."""
        self._evict_any()

    def _may_grow(self, site: str) -> bool:
        held = len(self.by_site.get(site, ()))
        if self._per_address is not None and held >= self._per_address:
            return False
        # With less than an equal part it may: an idle connection of the largest ends for it.
        return held < self.capacity / (len(self.by_site) + 1) or held + 1 <= share_of(held, self.capacity - self.total)

    def _evict_any(self) -> bool:
        while True:
            if not self._victims:
                self._victims = self._search()
            if not self._victims:
                return False
            since, victim = self._victims.pop(0)
            if victim.idle_since == since:
                self._evict(victim)
                return True

    def _search(self) -> list[tuple[float, Evictable]]:
        """Idle connections of the addresses with most, the longest idle of each first."""
        now = time.monotonic()
        if now < self._search_at:
            return []
        found: list[tuple[float, Evictable]] = []
        num_looks, wanted = 0, 1 + len(self.by_site) // _FOUND_PART
        for members in sorted(self.by_site.values(), key=len, reverse=True):
            some = min(wanted - len(found), 1 + len(members) // _OF_ONE_PART)
            found += heapq.nsmallest(some, self._idle(members), key=lambda each: each[0])
            num_looks += len(members)
            if len(found) == wanted or num_looks > _MAX_LOOKS:
                break
        if not found:
            self._search_at = now + _SEARCH_S
        return found

    def _idle(self, members: "dict[Evictable, None] | set[Evictable] | tuple[()]") -> list[tuple[float, Evictable]]:
        return [(since, each) for each in members if (since := each.idle_since) is not None]

    def _evict_first(self, idle: list[tuple[float, Evictable]]) -> bool:
        if not idle:
            return False
        self._evict(min(idle, key=lambda each: each[0])[1])
        return True

    def _evict(self, victim: Evictable) -> None:
        victim.evict()
        omitted = self._evictions.due(time.monotonic())
        if omitted is None:
            log.debug("connection.evicted", open=self.total)
        else:
            log.info("connection.evicted", open=self.total, omitted=omitted)

    def _refused(self, reason: str, site: str) -> str:
        omitted = self._refusals.due(time.monotonic())
        if omitted is None:
            log.debug("connection.refused", reason=reason, address=site, open=self.total)
        else:
            log.warning("connection.refused", reason=reason, address=site, open=self.total, omitted=omitted)
        return reason


def connection_capacity() -> int:
    """The connections that this process can serve with its limit of descriptors."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        descriptors = 1 << 20
    return max(descriptors // 2, descriptors - _OTHER_DESCRIPTORS - NUM_SPARE)
