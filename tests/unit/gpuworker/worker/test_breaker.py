"""The breaker, with a clock that the test sets."""

import random

import pytest

from gpuworker.worker.breaker import Breaker, State


class Bench:
    """A breaker that opens at two faults within ten seconds, and the states that it has reported."""

    def __init__(self, max_fails: int = 2, fail_timeout_s: float = 10.0) -> None:
        self.now = 100.0
        self.states: list[State] = []
        self.breaker = Breaker(max_fails, fail_timeout_s, lambda: self.now, self.states.append)

    def opened(self) -> "Bench":
        self.breaker.fault()
        self.breaker.fault()
        return self

    def on_trial(self) -> "Bench":
        self.opened().now += 10.0
        return self


def test_it_opens_at_the_last_of_max_fails_faults_within_the_window() -> None:
    bench = Bench()
    bench.breaker.fault()
    assert bench.breaker.state is State.CLOSED
    bench.now += 9.9
    bench.breaker.fault()
    assert (bench.breaker.state, bench.breaker.room) == (State.OPEN, 0)


def test_faults_further_apart_than_the_window_never_open_it() -> None:
    bench = Bench()
    for _ in range(20):
        bench.breaker.fault()
        bench.now += 10.1
    assert bench.states == []


def test_one_fault_is_enough_where_one_is_the_limit() -> None:
    bench = Bench(max_fails=1)
    bench.breaker.fault()
    assert bench.breaker.state is State.OPEN


def test_without_a_limit_it_never_opens() -> None:
    bench = Bench(max_fails=0)
    for _ in range(100):
        bench.breaker.fault()
    assert (bench.breaker.state, bench.breaker.room > 1000) == (State.CLOSED, True)


def test_it_takes_nothing_until_fail_timeout_has_passed_and_then_one_job() -> None:
    bench = Bench().opened()
    bench.now += 9.99
    assert (bench.breaker.room, round(bench.breaker.wait_s, 3)) == (0, 0.01)
    bench.now += 0.02
    assert (bench.breaker.state, bench.breaker.room) == (State.TRIAL, 1)
    bench.breaker.begin(1)
    assert bench.breaker.room == 0


def test_a_success_of_the_trial_job_closes_it_and_forgets_earlier_faults() -> None:
    bench = Bench().on_trial()
    bench.breaker.begin(1)
    bench.breaker.settle(1, succeeded=True)
    bench.breaker.fault()
    assert bench.states == [State.OPEN, State.TRIAL, State.CLOSED]
    assert bench.breaker.state is State.CLOSED


def test_a_fault_in_the_trial_opens_it_again_for_as_long() -> None:
    bench = Bench().on_trial()
    bench.breaker.begin(1)
    bench.now += 3
    bench.breaker.fault()
    assert (bench.breaker.state, bench.breaker.wait_s) == (State.OPEN, 10.0)


def test_a_trial_job_that_proved_nothing_makes_room_for_another() -> None:
    """It was cancelled, or another worker holds it."""
    bench = Bench().on_trial()
    bench.breaker.begin(1)
    bench.breaker.settle(1, succeeded=False)
    assert (bench.breaker.state, bench.breaker.room) == (State.TRIAL, 1)


def test_a_job_from_before_proves_nothing() -> None:
    bench = Bench()
    bench.breaker.begin(1)
    bench.on_trial()
    bench.breaker.begin(2)
    bench.breaker.settle(1, succeeded=True)
    assert (bench.breaker.state, bench.breaker.room) == (State.TRIAL, 0)
    bench.breaker.settle(2, succeeded=True)
    assert bench.breaker.state is State.CLOSED


def test_an_open_breaker_is_not_kept_open_by_later_faults() -> None:
    bench = Bench().opened()
    bench.now += 9
    bench.breaker.fault()
    bench.now += 1
    assert bench.breaker.state is State.TRIAL


@pytest.mark.parametrize("seed", range(20))
def test_an_ill_worker_harms_one_job_per_timeout_and_a_cured_one_serves_again(seed: int) -> None:
    """A thousand seconds of one job a second; the engine fails in every job of the middle third."""
    chance = random.Random(seed)
    bench = Bench()
    harmed, served_after, taken_while_open = 0, 0, 0
    for second in range(1000):
        bench.now = 1000.0 + second + chance.random() * 0.5
        state = bench.breaker.state
        if bench.breaker.room < 1:
            continue
        taken_while_open += state is State.OPEN
        bench.breaker.begin(second + 1)
        is_ill = 333 <= second < 666
        if is_ill:
            bench.breaker.fault()
            harmed += 1
        bench.breaker.settle(second + 1, succeeded=not is_ill)
        served_after += second >= 666
    assert taken_while_open == 0
    assert 333 / 11 - 2 <= harmed <= 333 / 10 + 3
    assert served_after >= 334 - 11
