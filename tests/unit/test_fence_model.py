"""Every small interleaving of the lease and the log. Change the rules here first (protocol rule 27)."""

import pytest

from tests.support.fence_model import Model, Without

CASTS = [
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
}


@pytest.mark.parametrize("cast", CASTS, ids="+".join)
def test_no_interleaving_breaks_a_log_or_leaves_a_job_that_nobody_can_end(cast: tuple[str, ...]) -> None:
    seen, found = Model().explore(cast)
    assert not found
    assert seen > 50


@pytest.mark.parametrize("rule", [rule for rule in Without if rule is not Without.NOTHING], ids=lambda rule: rule.name)
def test_each_rule_is_needed(rule: Without) -> None:
    _, found = Model(rule).explore(NEEDS[rule])
    assert found, f"nothing goes wrong without {rule.name}: the model does not test it"
    _, sound = Model().explore(NEEDS[rule])
    assert not sound


@pytest.mark.slow
@pytest.mark.parametrize("cast", [("first", "later", "cancel", "expire"), ("first", "later", "surplus", "reaper")], ids="+".join)
def test_no_interleaving_of_four_breaks_a_log(cast: tuple[str, ...]) -> None:
    _, found = Model(blocks=1).explore(cast)
    assert not found
