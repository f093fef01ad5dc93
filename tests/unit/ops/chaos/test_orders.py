"""The requests of a run are the seed's, and behave as their client fault says."""

import pytest

from ops.chaos.orders import Orders

#: The faults that are a client's behaviour.
CLIENT_FAULTS = ("clock", "hang_up", "poison", "slow", "wrong")


def test_equal_seeds_make_equal_requests() -> None:
    one, two = Orders(5, ("tone", "speech")), Orders(5, ("tone", "speech"))
    assert [one.next() for _ in range(100)] == [two.next() for _ in range(100)]


def test_only_models_that_are_served_are_asked_for() -> None:
    orders = Orders(5, ("tone",))
    assert {orders.next().model for _ in range(300)} == {"tone"}


@pytest.mark.parametrize("manner", CLIENT_FAULTS)
def test_a_client_fault_makes_a_request_of_that_manner(manner: str) -> None:
    assert Orders(5, ("tone",)).next(manner).manner == manner


def test_poison_that_never_stops_may_only_fail() -> None:
    orders = Orders(5, ("tone",))
    always = [order for order in (orders.next("poison") for _ in range(100)) if order.params["fault"]["times"] > 1]
    assert always
    assert {order.may_end for order in always} == {frozenset({"failed"})}
