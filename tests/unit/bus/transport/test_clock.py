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


DAY_S = 86_400.0


class Machine:
    """The clocks of one machine, and of the server's, as a test sets them."""

    def __init__(self) -> None:
        self.elapsed_s = 1000.0
        self.wall_s = self.server_s = 1.8e9
        self.clock = BusClock(lambda: self.elapsed_s, lambda: self.wall_s)

    def sync(self) -> None:
        self.clock.follow(self.server_s, self.elapsed_s)

    def pass_s(self, seconds: float) -> None:
        """Time passes, on every clock."""
        self.elapsed_s += seconds
        self.wall_s += seconds
        self.server_s += seconds


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S, 3600.0, -1.0])
def test_rule_14_setting_the_clock_of_this_machine_moves_no_deadline(jump_s: float) -> None:
    machine = Machine()
    machine.sync()
    due_s = machine.clock.now() + 600
    for _ in range(9):
        machine.pass_s(60)
        machine.wall_s += jump_s
        machine.sync()
        assert machine.clock.skew_s == pytest.approx(machine.wall_s - machine.server_s)
    machine.pass_s(59)
    assert machine.clock.now() == pytest.approx(due_s - 1)
    machine.pass_s(2)
    assert machine.clock.now() == pytest.approx(due_s + 1)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S, 3600.0, -3600.0])
def test_rule_14_setting_the_clock_of_the_server_moves_no_deadline(jump_s: float) -> None:
    """By a twentieth of the time that is left at most, whenever it is set."""
    machine = Machine()
    machine.sync()
    due_s = machine.clock.now() + 600
    machine.server_s += jump_s
    for _ in range(10):
        machine.pass_s(60)
        machine.sync()
    assert machine.clock.now() == pytest.approx(due_s, abs=0.05 * 600 + 1e-3)
    assert machine.clock.server_now() == pytest.approx(machine.server_s)
    assert abs(machine.clock.step_s - jump_s) <= 30.001


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_clock_that_is_set_and_set_back_leaves_nothing_behind(jump_s: float) -> None:
    machine = Machine()
    machine.sync()
    for step_s in (jump_s, -jump_s):
        machine.server_s += step_s
        machine.pass_s(60)
        machine.sync()
    machine.pass_s(60)
    machine.sync()
    assert machine.clock.now() == pytest.approx(machine.server_s, abs=1e-3)


def test_a_slow_first_reading_is_corrected_by_the_next() -> None:
    machine = Machine()
    machine.clock.follow(machine.server_s - 2.0, machine.elapsed_s, 2.5)
    machine.sync()
    assert machine.clock.now() == pytest.approx(machine.server_s)


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(-2 * DAY_S, 2 * DAY_S)), max_size=20))
def test_whatever_the_server_says_time_passes_at_nearly_its_pace(readings: list[tuple[float, float]]) -> None:
    machine = Machine()
    machine.sync()
    for passed_s, jump_s in readings:
        before_s = machine.clock.now()
        machine.pass_s(passed_s)
        machine.server_s += jump_s
        machine.sync()
        assert machine.clock.now() - before_s == pytest.approx(passed_s, abs=0.05 * passed_s + 1e-3)


@pytest.mark.parametrize("lane", LANES)
def test_rule_15_every_job_has_a_deadline(lane: str) -> None:
    job = with_deadline(wire.Job(input="x", lane=lane), now_s=1e9)
    assert job.expires_at == datetime.fromtimestamp(1e9, UTC) + timedelta(seconds=DEFAULT_DEADLINE_S[lane])
    own = datetime(2030, 1, 1, tzinfo=UTC)
    assert with_deadline(wire.Job(input="x", lane=lane, expires_at=own), now_s=1e9).expires_at == own
