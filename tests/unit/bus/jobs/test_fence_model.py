"""Every small interleaving of the lease and the log. Change the rules here first (protocol rule 27)."""

import pytest

from tests.support.fence_model import Model
from tests.support.fence_state import Without

CASTS = [
    ("first",),
    ("cancel", "expire"),
    ("first", "later"),
    ("first", "cancel"),
    ("first", "surplus", "cancel"),
    ("first", "later", "cancel"),
    ("first", "later", "reaper"),
    ("first", "surplus", "reaper"),
    ("first", "cancel", "expire"),
    ("later", "cancel", "expire"),
    ("first", "reaper", "reaper"),
    ("later", "later"),
    ("waiting", "cancel"),
    ("waiting", "later"),
    ("waiting", "reaper"),
    ("waiting", "later", "cancel"),
    ("grower", "heir"),
    ("grower", "later"),
    ("grower", "loss"),
    ("snapper",),
    ("capped",),
    ("heir", "heir"),
    ("snapper", "heir"),
    ("capped", "heir"),
    ("grower", "heir", "loss"),
    ("grower", "later", "loss"),
    ("snapper", "heir", "loss"),
    ("capped", "heir", "loss"),
]

#: Here every answer that may be lost multiplies the states by ten.
LARGE = [("first", "later", "cancel"), ("waiting", "later", "cancel")]
#: And here every place of a chain.
LARGE_CHAINS = [
    ("heir", "heir"),
    ("snapper", "heir"),
    ("capped", "heir"),
    ("grower", "heir", "loss"),
    ("grower", "later", "loss"),
    ("snapper", "heir", "loss"),
    ("capped", "heir", "loss"),
]

#: Who must meet to need the rule.
NEEDS = {
    Without.COMPARE_ON_TAKE: ("first", "later"),
    Without.FENCE: ("first", "later"),
    Without.LEASE_BEFORE_TAIL: ("later", "later"),
    Without.MESSAGE_ID: ("first",),
    Without.OWN_ID_ON_TAKE: ("first", "later"),
    Without.LEASE_TO_END: ("first", "cancel"),
    Without.TAIL_TO_END: ("first", "cancel"),
    Without.ANNOUNCEMENT: ("first", "later", "cancel"),
    Without.COMPARE_ON_END: ("cancel", "expire"),
    Without.ACK_LAST: ("first",),
    Without.WHOLE_CHAIN: ("grower", "heir", "loss"),
    Without.LAST_ENTRY_COUNTS: ("grower", "heir"),
    Without.SNAPSHOT_BREAKS: ("snapper",),
    Without.NONE_AFTER_A_DROP: ("capped",),
}


@pytest.mark.parametrize(
    "cast",
    [pytest.param(cast, marks=[pytest.mark.slow] * (cast in (*LARGE, *LARGE_CHAINS))) for cast in CASTS],
    ids="+".join,
)
def test_no_interleaving_breaks_a_log_or_leaves_a_job_that_no_process_can_end(cast: tuple[str, ...]) -> None:
    seen, fault, state = Model().explore(cast)
    assert not fault, state
    assert seen > 20


@pytest.mark.parametrize("rule", NEEDS, ids=lambda rule: rule.name)
def test_the_model_finds_a_fault_without_each_rule(rule: Without) -> None:
    assert Model(rule).explore(NEEDS[rule])[1], f"nothing goes wrong without {rule.name}: the model does not test it"
    assert NEEDS[rule] in CASTS, "with the rule, nothing must go wrong"


def test_no_rule_of_the_model_goes_without_such_a_test() -> None:
    assert NEEDS.keys() == set(Without) - {Without.NOTHING}


FOUR = [("first", "later", "cancel", "expire"), ("first", "later", "surplus", "reaper")]


@pytest.mark.parametrize("cast", [*LARGE, *(pytest.param(cast, marks=pytest.mark.slow) for cast in FOUR)], ids="+".join)
def test_no_interleaving_of_those_whose_answers_arrive_breaks_a_log(cast: tuple[str, ...]) -> None:
    _, fault, state = Model().explore(cast, loses_answers=False)
    assert not fault, state
