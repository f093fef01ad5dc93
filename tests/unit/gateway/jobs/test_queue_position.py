"""How many jobs a queue starts per second."""

from types import SimpleNamespace
from typing import Any

from gateway.jobs.queue_position import StartRates


class Workers:
    """A fleet that only has heartbeats."""

    def __init__(self) -> None:
        self.workers: dict[str, Any] = {}

    def beat(self, worker: str, boot: str, **started: int) -> None:
        self.workers[worker] = SimpleNamespace(heartbeat=SimpleNamespace(id=worker, boot=boot, started=started))


def test_starts_are_counted_per_queue_over_a_minute_and_restarts_count_from_zero() -> None:
    fleet = Workers()
    starts = StartRates(fleet)  # type: ignore[arg-type]
    fleet.beat("w1", "a", q=100)
    starts.look(0.0)
    assert starts.per_second("q", 0.0) is None  # starts before the first sample are of an unknown time
    fleet.beat("w1", "a", q=104)
    starts.look(1.0)
    assert starts.per_second("q", 1.0) is None  # four are too few
    fleet.beat("w2", "x", q=0, r=0)
    starts.look(2.0)
    fleet.beat("w2", "x", q=8, r=1)
    starts.look(3.0)
    assert starts.per_second("q", 3.0) == 12 / 60
    assert starts.per_second("r", 3.0) is None
    fleet.beat("w1", "b", q=0)
    starts.look(4.0)
    fleet.beat("w1", "b", q=6)
    starts.look(5.0)
    assert starts.per_second("q", 5.0) == 18 / 60
    assert starts.per_second("q", 62.0) == 14 / 60
    assert starts.per_second("q", 90.0) is None
