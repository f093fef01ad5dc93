"""The time that requests for metrics take, however many there are."""

from types import SimpleNamespace

from gateway.api.metrics import RationedText


def test_a_flood_of_requests_takes_a_small_share_of_the_time() -> None:
    now = SimpleNamespace(s=100.0, busy_s=0.0)

    def make() -> bytes:
        now.busy_s += 0.015
        return str(now.s).encode()

    text = RationedText(make, clock_s=lambda: now.s, cpu_s=lambda: now.busy_s)
    for _ in range(1000):
        latest = text.get()
        now.s += 0.01
    assert now.busy_s < 10 * 0.06
    assert float(latest) > now.s - 0.5
