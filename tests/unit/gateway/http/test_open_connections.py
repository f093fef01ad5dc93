"""Which connections there may be: shares of addresses, ends of idle ones, and probes when nothing is left."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bus.errors import Overloaded, TooMany
from gateway.access.addresses import Addresses
from gateway.http.open_connections import NUM_SPARE, OpenConnections


class Peer:
    """A connection as the bookkeeping sees it."""

    def __init__(self, crowd: "Crowd", site: str, idle_since: float | None) -> None:
        self.crowd = crowd
        self.site = site
        self.idle_since = idle_since
        self.is_open = True
        crowd.open.by_site.setdefault(site, {})[self] = None
        crowd.open.total += 1

    def evict(self) -> None:
        self.is_open = False
        members = self.crowd.open.by_site[self.site]
        del members[self]
        if not members:
            del self.crowd.open.by_site[self.site]
        self.crowd.open.total -= 1
        self.crowd.open.spare.discard(self)


class Crowd:
    """Connections that come one after the other, each idle since later than the one before."""

    def __init__(self, capacity: int, per_address: int | None = None, trusted: tuple[str, ...] = ()) -> None:
        self.open = OpenConnections(capacity, Addresses(trusted), per_address)
        self.now = 0.0
        self.kind = Peer

    def come(self, site: str, *, is_busy: bool = False) -> Peer | str:
        """The connection, or why it was refused."""
        self.now += 1
        if self.open.total >= self.open.num_calm and (reason := self.open.admit(site, site)) is not None:
            return reason
        peer = self.kind(self, site, None if is_busy else self.now)
        if self.open.total > self.open.capacity:
            self.open.spare.add(peer)
        return peer

    def fill(self, site: str, count: int, *, is_busy: bool = False) -> list[Peer]:
        """Those of `count` that were admitted."""
        found = [self.come(site, is_busy=is_busy) for _ in range(count)]
        return [each for each in found if isinstance(each, Peer)]

    def num_open(self, site: str) -> int:
        return len(self.open.by_site.get(site, ()))


def test_one_address_may_have_nearly_all_and_leaves_room_for_others() -> None:
    crowd = Crowd(900)
    busy = crowd.fill("10.0.0.1", 2000, is_busy=True)
    assert len(busy) == 800
    assert len(crowd.fill("10.0.0.2", 10, is_busy=True)) == 10


def test_a_refusal_names_its_reason() -> None:
    crowd = Crowd(90)
    crowd.fill("10.0.0.1", 80, is_busy=True)
    assert crowd.come("10.0.0.1", is_busy=True) == "address"
    for number in range(2, 300):
        crowd.come(f"10.0.1.{number}", is_busy=True)
    assert crowd.open.total == 90 + NUM_SPARE
    assert crowd.come("10.0.0.3", is_busy=True) == "full"


def test_at_its_share_an_address_loses_its_own_longest_idle_connection() -> None:
    crowd = Crowd(90)
    first, *_ = crowd.fill("10.0.0.1", 80)
    newest = crowd.come("10.0.0.1")
    assert isinstance(newest, Peer)
    assert (first.is_open, newest.is_open, crowd.num_open("10.0.0.1")) == (False, True, 80)


def test_silent_connections_of_some_addresses_end_for_those_of_others() -> None:
    crowd = Crowd(200)
    addresses = [f"127.0.0.{number}" for number in range(1, 9)]
    for turn in range(375):
        crowd.come(addresses[turn % 8]), crowd.come(addresses[(turn + 1) % 8])
    mine = crowd.fill("10.0.0.1", 20)
    assert len(mine) == 20
    for address in addresses * 100:
        crowd.come(address)
    assert all(peer.is_open for peer in mine)
    assert crowd.open.total <= 200
    assert not crowd.open.spare


def test_the_longest_idle_connection_of_the_address_that_has_most_ends() -> None:
    crowd = Crowd(20)
    quiet = [crowd.fill(f"10.0.1.{number}", 1)[0] for number in range(10)]
    most = crowd.fill("10.0.0.1", 8)
    quiet += [*crowd.fill("10.0.0.2", 1), *crowd.fill("10.0.0.4", 1)]
    most[0].idle_since = None
    late = crowd.come("10.0.0.3")
    assert isinstance(late, Peer)
    assert [peer.is_open for peer in most] == [True, False, *[True] * 6]
    assert all(peer.is_open for peer in quiet)


def test_busy_connections_never_end() -> None:
    crowd = Crowd(20)
    busy = [peer for number in range(20) for peer in crowd.fill(f"10.0.0.{number}", 1, is_busy=True)]
    for number in range(100):
        crowd.come(f"10.0.1.{number}")
    assert all(peer.is_open for peer in busy)
    assert crowd.open.total == 20 + NUM_SPARE


def test_beyond_the_bound_only_probes_are_served() -> None:
    crowd = Crowd(2)
    for number in range(2):
        crowd.come(f"10.0.0.{number}", is_busy=True)
    spare = crowd.come("10.0.0.3")
    assert isinstance(spare, Peer)
    probe, other = (cast("Any", SimpleNamespace(path=path, protocol=spare)) for path in ("/livez/", "/v1/jobs"))
    crowd.open.check_spare(probe)
    with pytest.raises(Overloaded, match="3 are open; this gateway has 2"):
        crowd.open.check_spare(other)
    next(iter(crowd.open.by_site["10.0.0.0"])).evict()
    crowd.open.check_spare(other)


def test_a_spare_connection_that_is_idle_ends_for_another() -> None:
    crowd = Crowd(2)
    for number in range(2):
        crowd.come(f"10.0.0.{number}", is_busy=True)
    for number in range(3 * NUM_SPARE):
        assert isinstance(crowd.come(f"10.0.1.{number}"), Peer)


def test_a_fixed_limit_is_that_of_each_address() -> None:
    crowd = Crowd(1000, per_address=3)
    assert len(crowd.fill("10.0.0.1", 5, is_busy=True)) == 3
    assert len(crowd.fill("10.0.0.2", 5, is_busy=True)) == 3


def test_a_trusted_proxy_has_no_limit_of_its_own() -> None:
    crowd = Crowd(99, per_address=3, trusted=("10.0.0.0/24",))
    assert len(crowd.fill("10.0.0.1", 90, is_busy=True)) == 90
    assert len(crowd.fill("10.0.9.1", 5, is_busy=True)) == 3


def test_many_addresses_cost_no_search_each() -> None:
    crowd = Crowd(5000)
    for number in range(5000):
        crowd.come(f"10.{number >> 8}.{number & 255}.1")
    looks = 0

    class Counting(Peer):
        @property
        def idle_since(self) -> float | None:  # type: ignore[override]
            nonlocal looks
            looks += 1
            return self.since

        @idle_since.setter
        def idle_since(self, since: float | None) -> None:
            self.since = since

    crowd.kind = Counting
    for number in range(5000):
        assert isinstance(crowd.come(f"11.{number >> 8}.{number & 255}.1"), Peer)
    assert looks < 50_000


def test_a_tenant_may_have_nearly_all_requests_in_progress_and_leaves_room_for_others() -> None:
    crowd = Crowd(900)
    for num_busy in range(1, 801):
        crowd.open.busy["acme"] = num_busy
        crowd.open.check_share("tenant-acme", num_busy)
    crowd.open.busy["acme"] = 801
    with pytest.raises(TooMany, match="connections: tenant acme holds 800") as refused:
        crowd.open.check_share("tenant-acme", 801)
    assert (refused.value.limit, refused.value.scope) == ("connections", "tenant")
    crowd.open.busy |= {"acme": 800, "victim": 1}
    crowd.open.check_share("tenant-victim", 1)
    crowd.open.busy["victim"] = 10
    crowd.open.check_share("tenant-victim", 10)
