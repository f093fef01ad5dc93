"""How many tries to reach one receiver are under way, when many events of its come at the same moment."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bus.webhook import HookProgress, Webhook
from gateway.webhooks import delivery as webhooks
from gateway.webhooks.concurrency import MOST_AT_ONCE
from tests.support.waiting import eventually

TOLD = Webhook(url="http://localhost/x")


class Hook:
    def __init__(self, later: list[float]) -> None:
        self.name = SimpleNamespace(job="j", tenant="t")
        self.due = HookProgress(since=0.0)
        self.later = later.append

    async def step(self, due: HookProgress) -> None:
        self.due = due


async def test_events_that_come_together_do_not_pass_where_there_is_room_for_a_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    posted: list[str] = []
    answered, later = asyncio.Event(), list[float]()

    async def view(*_: Any) -> dict[str, Any]:
        await asyncio.sleep(0)  # as the bus is asked for the sound so far
        return {}

    class Sender:
        async def post(self, webhook: Webhook, *_: Any) -> None:
            posted.append(webhook.url)
            await answered.wait()

    monkeypatch.setattr(webhooks, "view", view)
    bus = SimpleNamespace(clock=SimpleNamespace(now=lambda: 0.0), subjects=SimpleNamespace(root="r"))
    jobs: Any = SimpleNamespace(bus=bus)
    settings: Any = SimpleNamespace(webhook_private=True, webhook_max_tries=1)
    hooks: Any = None
    found: Any = SimpleNamespace(birth=SimpleNamespace(job=SimpleNamespace(id="j", tenant="t"), queue_seq=1))
    found.is_ended = False
    teller: Any = webhooks.Webhooks(jobs, hooks, settings)
    teller._sender = Sender()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2 * MOST_AT_ONCE):
            tasks.create_task(teller._send(Hook(later), found, TOLD, ["accepted"]))
        await eventually(lambda: len(posted) + len(later) == 2 * MOST_AT_ONCE)
        answered.set()
    assert (len(posted), len(later)) == (MOST_AT_ONCE, MOST_AT_ONCE)
