"""Deliveries in progress to one host."""

import asyncio
import socket
import threading
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from bus.webhook import HookProgress, Webhook
from gateway.webhooks import delivery
from gateway.webhooks.concurrency import MAX_PER_HOST, MAX_TRIES, HostLimit
from gateway.webhooks.delivery import WebhookDelivery
from gateway.webhooks.lookups import OWNER, Lookups
from tests.support.waiting import eventually


class Pending:
    """A job with one pending event."""

    def __init__(self, job: str = "j", tenant: str = "t") -> None:
        self.key = SimpleNamespace(job=job, tenant=tenant)
        self.owner = f"tenant-{tenant}"
        self.progress = HookProgress(since=0.0)
        self.deferred_s: list[float] = []

    def defer(self, delay_s: float) -> None:
        self.deferred_s.append(delay_s)

    async def advance(self, progress: HookProgress) -> None:
        self.progress = progress


class Queue:
    """Delivers its items once."""

    def __init__(self, items: list[Pending]) -> None:
        self._items = items

    async def pull(self, most: int) -> list[Pending]:
        found, self._items = self._items[:most], self._items[most:]
        if not found:
            await asyncio.Event().wait()
        return found


class Sender:
    """Never gets a response."""

    def __init__(self) -> None:
        self.posted: list[str] = []

    async def __aenter__(self) -> "Sender":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Holds nothing."""

    async def post(self, webhook: Webhook, *_: object) -> None:
        self.posted.append(webhook.url)
        await asyncio.Event().wait()


def fake_jobs(host: str = "localhost") -> Any:
    """Every job has just been accepted, and has a webhook; `{job}` in `host` is its id."""

    async def find(key: Any) -> object:
        webhook = Webhook(url=f"http://{host.format(job=key.job)}/x")
        job = SimpleNamespace(id=key.job, tenant=key.tenant, client=SimpleNamespace(webhook=webhook))
        birth = SimpleNamespace(job=job, queue_seq=1)
        return SimpleNamespace(birth=birth, position=SimpleNamespace(block=0), lease=None, is_ended=False)

    bus = SimpleNamespace(clock=SimpleNamespace(now=lambda: 0.0), subjects=SimpleNamespace(root="r"))
    return SimpleNamespace(bus=bus, find=find)


async def test_events_that_come_at_one_moment_do_not_pass_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def view(*_: object) -> dict[str, Any]:
        await asyncio.sleep(0)  # as when the bus is read for the body
        return {}

    monkeypatch.setattr(delivery, "view", view)
    items = [Pending() for _ in range(2 * MAX_PER_HOST)]
    queue: Any = Queue(items)
    sender: Any = Sender()
    running = asyncio.create_task(WebhookDelivery(fake_jobs(), queue, sender, max_tries=1, retry_s=1.0).run())
    await eventually(lambda: len(sender.posted) + sum(len(item.deferred_s) for item in items) == len(items))
    assert len(sender.posted) == MAX_PER_HOST
    running.cancel()
    await asyncio.wait((running,))
    assert all(item.deferred_s for item in items), "those in progress are returned when the gateway stops"


async def test_receivers_of_one_tenant_that_hang_leave_places_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def view(*_: object) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(delivery, "view", view)
    flood = [Pending(f"flood-{number}", "flood") for number in range(500)]
    queue: Any = Queue([*flood, Pending("victim", "victim")])
    sender: Any = Sender()
    jobs = fake_jobs("{job}.example.org")
    running = asyncio.create_task(WebhookDelivery(jobs, queue, sender, max_tries=1, retry_s=1.0).run())
    await eventually(lambda: "http://victim.example.org/x" in sender.posted)
    assert MAX_TRIES // 2 < len(sender.posted) - 1 < MAX_TRIES, "the flood has its share, which is not everything"
    assert sum(len(item.deferred_s) for item in flood) == len(flood) - len(sender.posted) + 1
    running.cancel()
    await asyncio.wait((running,))


async def test_names_of_one_tenant_that_nothing_answers_for_leave_threads_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_over = threading.Event()

    def getaddrinfo(host: str, *_: object) -> list[Any]:
        assert host == "victim" or is_over.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    lookups = Lookups()
    OWNER.set("tenant-flood")
    flood = [asyncio.create_task(lookups.resolve("flood")) for _ in range(500)]
    await asyncio.sleep(0)
    for task in flood:
        task.cancel()  # their tries have timed out; the threads go on
    ended = await asyncio.gather(*flood, return_exceptions=True)
    assert any("webhook_lookups: tenant flood holds" in str(each) for each in ended)
    OWNER.set("tenant-victim")
    try:
        assert [each["host"] for each in await lookups.resolve("victim")] == ["203.0.113.1"]
    finally:
        is_over.set()
        await lookups.close()


def test_a_slow_host_waits_longer_than_a_busy_one() -> None:
    now = [0.0]
    hosts = HostLimit(lambda: now[0])
    assert hosts.wait_s("a:80") is None
    with ExitStack() as deliveries:
        for _ in range(MAX_PER_HOST):
            deliveries.enter_context(hosts.trying("a:80"))
        busy_s = hosts.wait_s("a:80")
        now[0] = 2.0
        slow_s = hosts.wait_s("a:80")
        assert busy_s is not None
        assert slow_s is not None
        assert busy_s < slow_s
        assert hosts.wait_s("b:80") is None
    assert hosts.wait_s("a:80") is None
