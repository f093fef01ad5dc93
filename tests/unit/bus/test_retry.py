"""The delay between tries: doubling, capped, with jitter of at most half."""

import pytest

from bus.retry import delay_s


def test_the_delay_doubles_from_the_first_value_to_the_last() -> None:
    delays = [delay_s(attempt, 0.02, 0.5, None) for attempt in range(8)]
    assert delays == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5])


def test_the_jitter_takes_at_most_half() -> None:
    assert delay_s(3, 0.02, 0.5, lambda low, _high: low) == pytest.approx(0.16)
    assert delay_s(3, 0.02, 0.5, lambda _low, high: high) == pytest.approx(0.08)


def test_the_default_jitter_stays_within_its_bounds() -> None:
    delays = [delay_s(2, 1.0, 60.0) for _ in range(200)]
    assert 2.0 <= min(delays) < max(delays) <= 4.0


def test_an_attempt_of_any_number_is_capped() -> None:
    assert 0.25 <= delay_s(10**6, 0.02, 0.5) <= 0.5
