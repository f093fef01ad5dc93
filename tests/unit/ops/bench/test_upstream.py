"""The figures of a chain of two stacks."""

import json

import pytest

from ops.bench import upstream


def test_the_report_has_a_line_for_each_round_or_is_json() -> None:
    row = upstream.Row(round=1, direct_ms=2.5, through_ms=5.25, added_ms=2.75)
    assert upstream.report([row], as_json=False).splitlines()[1].split() == [
        "1",
        "2.50",
        "ms",
        "5.25",
        "ms",
        "2.75",
        "ms",
    ]
    (decoded,) = json.loads(upstream.report([row], as_json=True))
    assert decoded["added_ms"] == 2.75


@pytest.mark.slow
def test_a_chain_of_two_stacks_is_measured_and_every_sample_compared() -> None:
    (row,) = upstream.run(1)
    assert 0 < row.direct_ms < row.through_ms
