"""The bus's clock reads the server's times."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import wire
from bus.jobs.birth import DEFAULT_DEADLINE_S, with_deadline
from bus.subjects import LANES
from bus.transport.clock import BusClock, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
        ("1970-01-01T00:00:00.1234567Z", 0.123456),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("1970-01-01T02:00:00.000000001+02:00", 0.0),
        ("2026-02-28T23:59:59.999999999Z", 1772323199.999999),
    ],
)
def test_times_as_nats_writes_them_are_read_to_the_microsecond(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.integers(0, 999_999_999))  # noqa: DTZ001
def test_any_number_of_digits_of_a_second_is_read(second: datetime, nanoseconds: int) -> None:
    whole = second.replace(microsecond=0, tzinfo=UTC)
    digits = f"{nanoseconds:09d}".rstrip("0")
    text = whole.strftime("%Y-%m-%dT%H:%M:%S") + (f".{digits}" if digits else "") + "Z"
    assert parse_time(text) == pytest.approx(whole.timestamp() + nanoseconds / 1e9, abs=2e-6)


def test_before_it_has_learnt_the_clock_is_the_local_one() -> None:
    before_s = time.time()
    assert before_s - 0.001 <= BusClock().now() <= time.time() + 0.001


@pytest.mark.parametrize("lane", LANES)
def test_rule_15_every_job_has_a_deadline(lane: str) -> None:
    job = with_deadline(wire.Job(input="x", lane=lane), now_s=1e9)
    assert job.expires_at == datetime.fromtimestamp(1e9, UTC) + timedelta(seconds=DEFAULT_DEADLINE_S[lane])
    own = datetime(2030, 1, 1, tzinfo=UTC)
    assert with_deadline(wire.Job(input="x", lane=lane, expires_at=own), now_s=1e9).expires_at == own
