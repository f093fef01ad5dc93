"""The requests of a run are the seed's, and behave as their client fault says."""

import pytest

from ops.chaos.requests import Requests

#: The faults that are a client's behaviour.
CLIENT_FAULTS = ("clock", "hang_up", "poison", "slow", "wrong")


def test_equal_seeds_make_equal_requests() -> None:
    one, two = Requests(5, ("tone", "speech")), Requests(5, ("tone", "speech"))
    assert [one.next() for _ in range(100)] == [two.next() for _ in range(100)]


def test_only_models_that_are_served_are_asked_for() -> None:
    requests = Requests(5, ("tone",))
    assert {requests.next().model for _ in range(300)} == {"tone"}


@pytest.mark.parametrize("behaviour", CLIENT_FAULTS)
def test_a_client_fault_makes_a_request_of_that_manner(behaviour: str) -> None:
    assert Requests(5, ("tone",)).next(behaviour).behaviour == behaviour


def test_poison_that_never_stops_may_only_fail() -> None:
    requests = Requests(5, ("tone",))
    always = [
        request for request in (requests.next("poison") for _ in range(100)) if request.params["fault"]["times"] > 1
    ]
    assert always
    assert {request.valid_ends for request in always} == {frozenset({"failed"})}
