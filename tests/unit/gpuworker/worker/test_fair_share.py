"""Fair share by weight, simulated: workers receive each other's reports late, under a clock that the test sets."""

import random
from collections import Counter

import pytest

from gpuworker.worker.fair_share import IDLE_S, FairShare

#: Interval of a worker's reports, and the delay of their arrival.
REPORT_S, DELAY_S = 0.1, 0.02


class Simulated:
    """Workers with slots, jobs without end; steps of a millisecond."""

    def __init__(self, weights: dict[str, int], slots: int, job_s: dict[str, float], seed: int = 1) -> None:
        self.now = 10.0
        self.random = random.Random(seed)
        self.weights = weights
        self.slots = slots
        self.job_s = job_s
        self.shares = {name: FairShare(weight, lambda: self.now) for name, weight in weights.items()}
        self.running: dict[str, list[float]] = {name: [] for name in weights}
        self.starts: Counter[str] = Counter(dict.fromkeys(weights, 0))
        self.reported_at = {name: 10.0 + self.random.random() * REPORT_S for name in weights}
        self.on_the_wire: list[tuple[float, str, int]] = []

    def run(self, jobs: int, limit_s: float = 600.0) -> Counter[str]:
        """Until `jobs` have started. Returns starts by worker."""
        before, deadline = Counter(self.starts), self.now + limit_s
        while (self.starts - before).total() < jobs:
            assert self.now < deadline, self.starts
            self._step(jobs - (self.starts - before).total())
        return self.starts - before

    def idle(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self._step(0)

    def _step(self, waiting: int) -> None:
        self.now += 0.001
        self._report()
        names = list(self.weights)
        self.random.shuffle(names)
        for name in names:
            self.running[name] = [end for end in self.running[name] if end > self.now]
            room = self.shares[name].room
            free = self.slots - len(self.running[name])
            for _ in range(min(free, waiting, 1 if room is None else room)):
                waiting -= 1
                self.shares[name].num_started += 1
                self.starts[name] += 1
                self.running[name].append(self.now + self.job_s[name] * (0.5 + self.random.random()))

    def _report(self) -> None:
        for name, reported_at in self.reported_at.items():
            if self.now >= reported_at + REPORT_S:
                self.reported_at[name] = self.now
                self.on_the_wire.append((self.now + DELAY_S, name, self.starts[name]))
        while self.on_the_wire and self.on_the_wire[0][0] <= self.now:
            _, name, starts = self.on_the_wire.pop(0)
            for other, shares in self.shares.items():
                if other != name:
                    shares.report(name, self.weights[name], starts)


def equal_job_s(seconds: float, weights: dict[str, int]) -> dict[str, float]:
    return dict.fromkeys(weights, seconds)


@pytest.mark.parametrize("slots", [1, 8])
@pytest.mark.parametrize("job_s", [0.02, 0.1, 0.5])
def test_under_saturation_starts_are_shared_by_weight(slots: int, job_s: float) -> None:
    weights = {"a": 1, "b": 2, "c": 4}
    simulated = Simulated(weights, slots, equal_job_s(job_s, weights))
    simulated.idle(0.3)
    unit = 200 if job_s < 0.1 else 60 if job_s < 0.5 else 40
    starts = simulated.run(7 * unit)
    for name, weight in weights.items():
        assert starts[name] == pytest.approx(unit * weight, rel=0.1)


def test_the_slow_ones_share_too_and_the_fast_ones_wait_for_them() -> None:
    """Weights are set by the operator, not measured."""
    weights = {"slow": 4, "fast": 1}
    simulated = Simulated(weights, 4, {"slow": 0.4, "fast": 0.02})
    simulated.idle(0.3)
    starts = simulated.run(500)
    assert starts["slow"] == pytest.approx(400, rel=0.1)


def test_equal_weights_hold_no_worker_back() -> None:
    weights = {"a": 3, "b": 3}
    simulated = Simulated(weights, 4, {"a": 0.2, "b": 0.02})
    simulated.run(500)
    assert all(shares.room is None for shares in simulated.shares.values())


def test_a_rival_stuck_in_long_jobs_holds_the_others_back_for_a_moment_only() -> None:
    weights = {"stuck": 4, "free": 1}
    simulated = Simulated(weights, 2, {"stuck": 1000.0, "free": 0.05})
    began = simulated.now
    simulated.run(100, limit_s=IDLE_S + 10)
    assert simulated.now - began < IDLE_S + 5


def test_starts_before_a_pause_are_forgotten() -> None:
    """A worker that had all jobs while its rival was idle owes it none of them when the rival is busy again."""
    now = [0.0]
    shares = FairShare(1, lambda: now[0])
    shares.report("b", 2, 0)
    for _ in range(500):
        shares.num_started += 1
    now[0] += IDLE_S + 1
    assert shares.room is None
    shares.report("b", 2, 0)
    now[0] += 0.1
    shares.report("b", 2, 4)
    assert shares.room == 3


def test_one_that_is_gone_is_forgotten() -> None:
    now = 0.0
    shares = FairShare(1, lambda: now)
    shares.report("b", 4, 0)
    shares.report("b", 4, 1)
    for _ in range(9):
        shares.num_started += 1
    assert (shares.room, shares.wait_s > 0) == (0, True)
    shares.forget("b")
    assert (shares.room, shares.wait_s) == (None, 0.0)


def test_a_job_that_did_not_start_after_all_is_not_counted() -> None:
    shares = FairShare(1, lambda: 0.0)
    shares.report("b", 2, 0)
    shares.report("b", 2, 2)
    before = shares.room
    shares.num_started += 1
    shares.num_started -= 1
    assert shares.room == before
