"""The schedule of faults and requests is the seed's, and in the proportions that were asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.chaos.plan import CLIENT_KINDS, EXTRA, WEIGHTS, Orders, counts, schedule


def test_equal_seeds_deal_equal_faults() -> None:
    assert schedule(7, 200, 120.0, 5.0) == schedule(7, 200, 120.0, 5.0)


def test_another_seed_deals_other_faults() -> None:
    assert schedule(7, 200, 120.0, 5.0) != schedule(8, 200, 120.0, 5.0)


def test_a_thousand_faults_are_of_the_promised_kinds() -> None:
    counted = counts(1000)
    assert counted["worker_kill"] == 700
    assert counted["host_kill"] == 150
    assert counted["worker_freeze"] == 50
    assert counted["gateway_kill"] == 40
    assert counted["nats_restart"] + counted["nats_outage"] == 30
    assert sum(counted.values()) == 1000


@given(st.integers(0, 5000), st.sets(st.sampled_from([*WEIGHTS, *EXTRA]), min_size=1))
def test_as_many_faults_as_asked_for_are_dealt_and_of_the_asked_kinds_alone(number: int, kinds: set[str]) -> None:
    dealt = schedule(1, number, 60.0, 5.0, tuple(sorted(kinds)))
    assert len(dealt) == number
    assert {fault.kind for fault in dealt} <= kinds


@given(st.integers(len(WEIGHTS), 5000))
def test_no_kind_is_left_out_while_there_are_enough(number: int) -> None:
    assert min(counts(number).values()) >= 1


def test_faults_come_in_order_and_within_their_time() -> None:
    times = [fault.at_s for fault in schedule(3, 300, 60.0, 5.0)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 60


def test_a_freeze_lasts_past_the_ack_wait_and_a_hiccup_does_not() -> None:
    dealt = schedule(3, 2000, 60.0, 5.0)
    assert all(5.0 < fault.for_s <= 10.0 for fault in dealt if fault.kind == "worker_freeze")
    assert all(0 < fault.for_s < 5.0 for fault in dealt if fault.kind == "worker_hiccup")


def test_equal_seeds_make_equal_requests() -> None:
    one, two = Orders(5, ("tone", "speech")), Orders(5, ("tone", "speech"))
    assert [one.next() for _ in range(100)] == [two.next() for _ in range(100)]


def test_only_models_that_are_served_are_asked_for() -> None:
    orders = Orders(5, ("tone",))
    assert {orders.next().model for _ in range(300)} == {"tone"}


@pytest.mark.parametrize("manner", sorted(CLIENT_KINDS))
def test_a_client_fault_makes_a_request_of_that_manner(manner: str) -> None:
    assert Orders(5, ("tone",)).next(manner).manner == manner


def test_poison_that_never_stops_may_only_fail() -> None:
    orders = Orders(5, ("tone",))
    always = [order for order in (orders.next("poison") for _ in range(100)) if order.params["fault"]["times"] > 1]
    assert always
    assert {order.may_end for order in always} == {frozenset({"failed"})}
