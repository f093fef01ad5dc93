"""The schedule of faults is the seed's, in the proportions of the registered weights."""

from hypothesis import given
from hypothesis import strategies as st

from ops.chaos.faults import KINDS, default_kinds
from ops.chaos.plan import counts, schedule

DEFAULT = default_kinds()


def test_equal_seeds_plan_equal_faults() -> None:
    assert schedule(7, 200, 120.0, 5.0, DEFAULT) == schedule(7, 200, 120.0, 5.0, DEFAULT)


def test_another_seed_plans_other_faults() -> None:
    assert schedule(7, 200, 120.0, 5.0, DEFAULT) != schedule(8, 200, 120.0, 5.0, DEFAULT)


def test_a_thousand_faults_are_of_the_promised_kinds() -> None:
    counted = counts(1000, DEFAULT)
    assert counted["worker_kill"] == 700
    assert counted["host_kill"] == 150
    assert counted["worker_freeze"] == 50
    assert counted["gateway_kill"] == 40
    assert counted["nats_restart"] + counted["nats_outage"] == 30
    assert sum(counted.values()) == 1000


@given(st.integers(0, 5000), st.sets(st.sampled_from(list(KINDS)), min_size=1))
def test_as_many_faults_as_asked_for_are_planned_and_only_of_the_given_kinds(number: int, kinds: set[str]) -> None:
    planned = schedule(1, number, 60.0, 5.0, tuple(sorted(kinds)))
    assert len(planned) == number
    assert {fault.kind for fault in planned} <= kinds


@given(st.integers(len(DEFAULT), 5000))
def test_no_kind_is_left_out_while_there_are_enough(number: int) -> None:
    assert min(counts(number, DEFAULT).values()) >= 1


def test_faults_come_in_order_and_within_their_time() -> None:
    times = [fault.at_s for fault in schedule(3, 300, 60.0, 5.0, DEFAULT)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 60


def test_a_freeze_lasts_past_the_ack_wait_and_a_hiccup_does_not() -> None:
    planned = schedule(3, 2000, 60.0, 5.0, DEFAULT)
    assert all(5.0 < fault.for_s <= 10.0 for fault in planned if fault.kind == "worker_freeze")
    assert all(0 < fault.for_s < 5.0 for fault in planned if fault.kind == "worker_hiccup")
