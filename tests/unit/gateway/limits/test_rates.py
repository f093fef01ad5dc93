"""Requests per second that several gateways grant together, in simulated time: no sleeping, no bus."""

import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.limits.gossip import TIMES, AccountGrants
from gateway.limits.rates import Rate, Rates, rate_of

STEP_S = 0.01
KEY = "key.k"


class Cluster:
    """Gateways whose clocks differ, and the reports in transit between them."""

    def __init__(self, count: int, delay_s: Callable[[], float], lost: Callable[[], bool] = lambda: False) -> None:
        self._delay_s = delay_s
        self._lost = lost
        self.now_s = 0.0
        self.members = [Rates() for _ in range(count)]
        self._offsets = [1000.0 * index for index in range(count)]
        self._sent_at = [float("-inf")] * count
        self._in_transit: list[tuple[float, int, int, list[AccountGrants], bool]] = []
        #: Time and place of each grant.
        self.granted: list[tuple[float, int]] = []

    def clock(self, member: int) -> float:
        return self.now_s + self._offsets[member]

    def request(self, member: int, rate: Rate, account: str = KEY) -> bool:
        rates, now_s = self.members[member], self.clock(member)
        if not rates.standing(account, rate, now_s).left:
            return False
        rates.grant(account, rate, now_s)
        self.granted.append((self.now_s, member))
        return True

    def join(self) -> int:
        """A gateway that knows nothing, and receives the full state."""
        self.members.append(Rates())
        self._offsets.append(7.0)
        self._sent_at.append(float("-inf"))
        newcomer = len(self.members) - 1
        for member in range(newcomer):
            self._report(member, full=True)
        return newcomer

    def _report(self, member: int, *, full: bool) -> None:
        changes = self.members[member].take_changes(self.clock(member), full=full)
        if not changes:
            return
        self._sent_at[member] = self.now_s
        for other in range(len(self.members)):
            if other != member and not self._lost():
                self._in_transit.append((self.now_s + self._delay_s(), other, member, changes, full))

    def step(self, seconds: float = STEP_S) -> None:
        self.now_s += seconds
        due = [report for report in self._in_transit if report[0] <= self.now_s]
        self._in_transit = [report for report in self._in_transit if report[0] > self.now_s]
        for _, other, member, changes, full in sorted(due, key=lambda report: report[0]):
            self.members[other].merge(f"g{member}", changes, self.clock(other), full=full)
        for member in range(len(self.members)):
            if self.now_s - self._sent_at[member] >= TIMES.interval_s:
                self._report(member, full=False)

    def between(self, start_s: float, end_s: float) -> int:
        return sum(start_s < at_s <= end_s for at_s, _ in self.granted)


def settled(cluster: Cluster) -> None:
    for _ in range(100):
        cluster.step()


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 4),
    per_s=st.floats(4.0, 40.0),
    burst=st.integers(3, 12),
    seed=st.integers(0, 2**32),
    delay_s=st.floats(0.0, 0.3),
)
def test_whichever_gateways_receive_the_requests_the_rate_over_time_is_what_was_set(
    count: int, per_s: float, burst: int, seed: int, delay_s: float
) -> None:
    rng, rate = random.Random(seed), Rate(per_s, burst)
    loads = [rng.uniform(0.6, 1.0) for _ in range(count)]
    cluster = Cluster(count, lambda: rng.uniform(0, delay_s))
    # Time until a grant is reported everywhere; afterwards the first bursts are paid for.
    unreported_s = count * (delay_s + TIMES.interval_s + STEP_S + 1 / per_s)
    start_s = unreported_s + count * burst / per_s
    end_s = start_s + 8
    while cluster.now_s < end_s:
        for member in range(count):
            if rng.random() < loads[member]:
                cluster.request(member, rate)
        cluster.step()
    assert cluster.between(start_s, end_s) == pytest.approx(8 * per_s, abs=per_s * unreported_s + 1)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 5), per_s=st.floats(0.5, 50), burst=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_a_client_that_keeps_to_the_limit_is_never_refused(count: int, per_s: float, burst: int, seed: int) -> None:
    rng, rate = random.Random(seed), Rate(per_s, burst)
    cluster = Cluster(count, lambda: rng.uniform(0, 0.002))
    # A report counts from its arrival: the client is slower than the limit by the time in transit.
    steps_between = math.ceil((1 / per_s + 2 * STEP_S) / STEP_S)
    for index in range(800):
        if index % steps_between == 0:
            assert cluster.request(rng.randrange(count), rate)
        cluster.step()


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(2, 5),
    per_s=st.floats(1.0, 50.0),
    seed=st.integers(0, 2**32),
    loss=st.floats(0.0, 0.5),
)
def test_lost_reports_are_covered_by_later_ones(count: int, per_s: float, seed: int, loss: float) -> None:
    rng, rate = random.Random(seed), Rate(per_s, 1)
    cluster = Cluster(count, lambda: rng.uniform(0, 0.02), lambda: rng.random() < loss)
    while cluster.now_s < 8:
        for member in range(count):
            cluster.request(member, rate)
        cluster.step()
    unreported = count * per_s * 2.0 + count
    assert cluster.between(0, 8) == pytest.approx(8 * per_s, abs=unreported)


def test_one_gateway_gives_the_whole_burst_at_once_then_the_rate() -> None:
    cluster, rate = Cluster(3, lambda: 0.002), Rate(10.0, 5)
    assert [cluster.request(0, rate) for _ in range(7)] == [True] * 5 + [False] * 2
    cluster.step(0.1)
    assert [cluster.request(0, rate) for _ in range(2)] == [True, False]


def test_a_burst_at_three_gateways_at_one_moment_is_paid_back_before_anything_else_is_granted() -> None:
    cluster, rate = Cluster(3, lambda: 0.002), Rate(10.0, 10)
    for member, _ in itertools.product(range(3), range(30)):
        cluster.request(member, rate)
    assert len(cluster.granted) == 30, "no gateway could know of the others"
    while cluster.now_s < 1.9:
        cluster.step()
        assert not any(cluster.request(member, rate) for member in range(3)), f"the debt is not paid at {cluster.now_s}"
    while cluster.now_s < 10:
        cluster.step()
        for member in range(3):
            cluster.request(member, rate)
    assert len(cluster.granted) == pytest.approx(10 + 10 * 10, abs=5)


def test_a_slow_limit_is_not_granted_once_by_each_gateway() -> None:
    rng, rate = random.Random(1), Rate(1.0, 1)
    cluster = Cluster(3, lambda: 0.002)
    while cluster.now_s < 30:
        for member in rng.sample(range(3), 3):
            if rng.random() < 0.1:
                cluster.request(member, rate)
        cluster.step()
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(cluster.granted)]
    close = sum(gap < 0.5 for gap in gaps)
    assert close <= len(gaps) // 3, f"{close} of {len(gaps)} came together"
    assert len(cluster.granted) == pytest.approx(30, abs=3)


def test_a_gateway_that_joins_knows_what_is_spent() -> None:
    cluster, rate = Cluster(2, lambda: 0.002), Rate(1.0, 20)
    for _ in range(40):
        cluster.request(0, rate)
        cluster.request(1, rate)
    settled(cluster)
    newcomer = cluster.join()
    cluster.step()
    assert not cluster.request(newcomer, rate)
    wait_s = cluster.members[newcomer].standing(KEY, rate, cluster.clock(newcomer)).retry_after_s
    assert wait_s == pytest.approx(21 - cluster.now_s, abs=0.02)


def test_a_refusal_says_when_to_retry_and_then_the_request_is_granted() -> None:
    cluster, rate = Cluster(1, lambda: 0.0), Rate(3.0, 2)
    while cluster.request(0, rate):
        pass
    wait_s = cluster.members[0].standing(KEY, rate, cluster.clock(0)).retry_after_s
    assert wait_s == pytest.approx(1 / 3)
    cluster.now_s += wait_s - 0.001
    assert not cluster.request(0, rate)
    cluster.now_s += 0.001
    assert cluster.request(0, rate)


def test_accounts_do_not_touch_each_other() -> None:
    cluster, rate = Cluster(2, lambda: 0.002), Rate(1.0, 1)
    assert cluster.request(0, rate, "key.a")
    settled(cluster)
    assert cluster.request(1, rate, "key.b")
    assert not cluster.request(1, rate, "key.a")


def test_idle_accounts_are_forgotten_and_those_in_debt_are_not() -> None:
    rates = Rates()
    for index in range(1000):
        rates.grant(f"address.{index}", Rate(1.0, 1), 0.0)
    for _ in range(100):
        rates.grant("key.k", Rate(1.0, 1), 0.0)
    rates.take_changes(0.0, full=False)
    rates.forget_idle(50.0)
    assert len(rates) == 1
    assert rates.standing("key.k", Rate(1.0, 1), 50.0).retry_after_s == pytest.approx(50.0)


def test_an_account_that_its_gateway_forgot_counts_from_zero_again() -> None:
    rate, receiver = Rate(10.0, 1), Rates()
    receiver.merge("g", [AccountGrants(KEY, 100, 1, 0.1, 0.0, 0.0)], 0.0, full=False)
    receiver.merge("g", [AccountGrants(KEY, 2, 2, 0.1, 0.0, 0.0)], 5.0, full=False)
    assert receiver.standing(KEY, rate, 5.0).retry_after_s == pytest.approx(0.2)


def test_reports_that_a_frozen_gateway_receives_late_are_paid_for() -> None:
    rate, receiver = Rate(10.0, 1), Rates()
    for second in range(30):
        receiver.merge("g", [AccountGrants(KEY, 10 * second + 10, 10, 0.1, 1.0, 0.0)], second + 1.0, full=False)
    assert receiver.standing(KEY, rate, 30.0).retry_after_s == pytest.approx(0.0)
    assert receiver.standing(KEY, rate, 30.0).left == 1


def test_a_fair_share_of_a_small_burst_is_still_one_request() -> None:
    assert Rate(9.0, 10).shared_by(3) == Rate(3.0, 3)
    assert Rate(9.0, 2).shared_by(3) == Rate(3.0, 1)


def test_without_a_burst_a_second_may_come_at_once() -> None:
    assert rate_of(8.5, None) == Rate(8.5, 8)
    assert rate_of(0.2, None) == Rate(0.2, 1)
    assert rate_of(None, 5) is None
