"""A pool that owners share: bounds, shares, and room for an owner that comes late."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.fair_pool import GREED, FairPool, equal_part

OWNERS = st.sampled_from("abcd")


def fill(pool: FairPool, owner: str, weight: float = 1.0) -> float:
    """Take units until the pool refuses one; what the owner then holds."""
    while pool.take(owner, 1.0, weight) is None:
        pass
    return pool.held(owner)


def test_one_owner_alone_gets_eight_ninths() -> None:
    assert fill(FairPool(900), "a") == 800


def test_a_late_owner_always_finds_room() -> None:
    pool = FairPool(900)
    fill(pool, "a")
    assert pool.take("b", 1) is None
    assert fill(pool, "b") >= 80


def test_owners_that_fill_the_pool_in_turn_get_equal_shares() -> None:
    pool = FairPool(1700)
    wants = {"a", "b"}
    while wants:
        wants = {owner for owner in wants if pool.take(owner, 1) is None}
    assert pool.owners == {"a": 800, "b": 800}


def test_shares_follow_weights() -> None:
    pool = FairPool(2500)
    wants = {"light": 1.0, "heavy": 2.0}
    while wants:
        wants = {owner: weight for owner, weight in wants.items() if pool.take(owner, weight, weight) is None}
    assert pool.held("heavy") == 2 * pool.held("light")


def test_a_first_amount_may_fill_what_is_free() -> None:
    pool = FairPool(100)
    assert pool.take("a", 100) is None
    refusal = pool.take("b", 1)
    assert refusal is not None
    assert not refusal.is_own
    assert (refusal.asked, refusal.held, refusal.allowed) == (1, 0, 0)


def test_a_refusal_says_that_the_share_of_the_owner_is_used_up() -> None:
    pool = FairPool(900)
    fill(pool, "a")
    refusal = pool.refusal("a", 1)
    assert refusal is not None
    assert refusal.is_own
    assert (refusal.held, refusal.allowed) == (800, 800)


def test_what_is_given_back_can_be_taken_again() -> None:
    pool = FairPool(9)
    assert fill(pool, "a") == 8
    pool.give_back("a", 8)
    assert pool.owners == {}
    assert pool.free == 9
    assert fill(pool, "a") == 8


def test_giving_back_more_than_is_held_is_an_error() -> None:
    pool = FairPool(9)
    pool.add("a", 2)
    with pytest.raises(ValueError, match="holds 2 and cannot give back 3"):
        pool.give_back("a", 3)
    assert pool.held("a") == 2


def test_amounts_in_use_are_counted_beyond_the_capacity() -> None:
    pool = FairPool(10)
    pool.add("a", 15)
    assert pool.free == -5
    assert pool.take("b", 1) is not None
    assert pool.take("a", 1) is not None


@given(st.lists(st.tuples(OWNERS, st.integers(1, 50), st.booleans())))
def test_the_pool_is_never_overdrawn_and_its_sums_agree(steps: list[tuple[str, int, bool]]) -> None:
    pool = FairPool(100)
    for owner, amount, takes in steps:
        if takes:
            pool.take(owner, amount)
        elif pool.held(owner) >= amount:
            pool.give_back(owner, amount)
        assert 0 <= pool.total <= 100
        assert pool.total == pytest.approx(sum(pool.owners.values()))
        assert pool.free == pytest.approx(100 - pool.total)


@given(st.lists(st.tuples(OWNERS, st.integers(1, 10)), min_size=1))
def test_an_owner_grows_only_while_it_leaves_a_ninth_of_its_reach_free(steps: list[tuple[str, int]]) -> None:
    pool = FairPool(200)
    for owner, amount in steps * 20:
        is_first = not pool.held(owner)
        if pool.take(owner, amount) is None and not is_first:
            assert pool.held(owner) <= GREED * pool.free + 1e-6


@pytest.mark.parametrize(
    ("amounts", "capacity", "part"),
    [
        ([10, 10], 20, math.inf),
        ([30, 10], 20, 10),
        ([90, 5, 5], 50, 40),
        ([90, 90, 5], 50, 22.5),
        ([], 10, math.inf),
        ([], 0, 0),
        ([5], -1, 0),
    ],
)
def test_an_equal_part_cuts_the_largest_only(amounts: list[float], capacity: float, part: float) -> None:
    assert equal_part(amounts, capacity) == part


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 1e6))
def test_amounts_cut_at_an_equal_part_fill_the_capacity(amounts: list[float], capacity: float) -> None:
    part = equal_part(amounts, capacity)
    whole = sum(min(each, part) for each in amounts)
    assert whole == pytest.approx(min(capacity, sum(amounts)), rel=1e-6, abs=1e-6)
