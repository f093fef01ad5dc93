"""What it costs this gateway to be asked for its metrics, by anybody and as often as they like."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api import metrics
from gateway.api.metrics import GatewayMetrics


async def test_a_flood_of_questions_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(s=100.0, busy_s=0.0)

    class Figures:
        def text(self) -> bytes:
            now.busy_s += 0.015
            return str(now.s).encode()

    async def look() -> None:
        return None

    jobs: Any = SimpleNamespace(bus=None, cache=None)
    unused: Any = None
    told: Any = GatewayMetrics(jobs, unused, unused, unused, unused, unused, unused)
    told._metrics = Figures()
    told._stores.look = look
    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: now.s, thread_time=lambda: now.busy_s))
    for _ in range(1000):
        text = await told.text()
        now.s += 0.01
    assert now.busy_s < 10 * 0.06
    assert float(text) > now.s - 0.5
