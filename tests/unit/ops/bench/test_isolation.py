"""The figures of `antiphon bench isolation`: percentiles, ratios, and the table of docs/benchmarks.md."""

import json

import pytest

from ops.bench.isolation import Measured, Row, chosen, report
from ops.errors import UsageRefused
from ops.flood.pools import POOLS


def measured(first_ms: list[float], failed: int = 0, late: int = 0, purged: int = 0) -> Measured:
    first_s = sorted(each / 1000 for each in first_ms)
    return Measured(first_s=first_s, failed=failed, late=late, purged=purged)


def row(number: int, control_ms: float, flooded_ms: float, **harm: int) -> Row:
    control, flooded = measured([control_ms]), measured([flooded_ms], **harm)
    return Row(round=number, pool="queue", control=control, flooded=flooded, taken=10, refused=5)


def test_the_95th_percentile_is_of_the_good_requests() -> None:
    assert measured([float(each) for each in range(1, 101)]).p95_ms == pytest.approx(96)


def test_a_measurement_without_a_good_request_is_infinite() -> None:
    assert measured([], failed=3).p95_ms == float("inf")


def test_the_table_has_medians_over_the_rounds_and_sums_of_harm() -> None:
    rows = [row(0, 10, 20, failed=1), row(1, 20, 20, purged=2), row(2, 10, 15, late=4)]
    head, _, line = report(rows, as_json=False).splitlines()
    assert line == "| queue | 10.0 | 20.0 | x1.50 (1.00 to 2.00) | 3 | 1 | 4 | 2 | 30 / 15 |"
    assert head.count("|") == line.count("|")


def test_json_has_every_round() -> None:
    (first,) = json.loads(report([row(0, 10, 20)], as_json=True))
    assert (first["pool"], first["flooded"]["first_s"]) == ("queue", [0.02])


def test_all_pools_are_flooded_by_default() -> None:
    assert chosen("") == tuple(POOLS)
    assert set(POOLS) == {"queue", "store", "encoders", "answers", "webhooks", "places", "connections", "lists"}


def test_an_unknown_pool_is_refused_by_name() -> None:
    with pytest.raises(UsageRefused, match="--pools: slots is not one of queue, store"):
        chosen("queue,slots")
