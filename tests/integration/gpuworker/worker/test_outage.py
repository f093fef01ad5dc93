"""Outages that meet a worker while it starts or loads a model again."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bus.errors import NoResponders, Unreachable
from bus.fleet.presence import DuplicateWorkerId, Presence
from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from tests.support.bus import hold_reconnect
from tests.support.fleet import present
from tests.support.jobs import JobListener, tone_job
from tests.support.nats import fresh_root
from tests.support.programs import fleet_of, host_pid
from tests.support.restarts import own_server
from tests.support.stub_worker import beat
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually


def starting(bus: Bus) -> Presence:
    return Presence(bus, "w1", "b2", lambda: beat("w1", "b2", []), lambda _: None)


@pytest.mark.parametrize("error", [Unreachable, NoResponders])
async def test_a_worker_looks_again_for_its_id_when_the_server_dies_over_the_request(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A missing answer means nothing if the server is a new one, to which others may not have reconnected yet."""
    subjects: list[str] = []
    original = bus.connection.request

    async def request(subject: str, *args: Any, **more: Any) -> object:
        subjects.append(subject)
        if len(subjects) == 1:
            bus.connection.state.generation += 1
            raise error("of another server")
        return await original(subject, *args, **more)

    monkeypatch.setattr(bus.connection, "request", request)
    await starting(bus).ensure_unique_id()
    assert subjects == [bus.subjects.ping("w1")] * 2


async def test_a_worker_of_the_same_id_that_reconnects_later_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_server(tmp_path) as server:
        settings = BusSettings(nats=server.url, root=fresh_root(), jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)
        async with open_bus(settings, "worker") as old, open_bus(settings, "worker") as new, present(old, "w1", "b1"):
            let_in, waiting = hold_reconnect(old.connection), asyncio.Event()

            async def wait_for_peers() -> None:
                waiting.set()
                await eventually(lambda: old.connection.state.generation == 1)

            monkeypatch.setattr(new.connection.state, "wait_for_peers", wait_for_peers)
            await asyncio.to_thread(server.restart)
            await eventually(lambda: new.connection.state.generation == 1)
            checking = asyncio.ensure_future(starting(new).ensure_unique_id())
            await asyncio.wait_for(waiting.wait(), 20)
            with pytest.raises(NoResponders):
                await new.connection.request(new.subjects.ping("w1"))
            let_in.set()
            with pytest.raises(DuplicateWorkerId, match=r"boot b1"):
                await asyncio.wait_for(checking, 60)


async def test_a_worker_whose_model_loads_during_an_outage_serves_once_it_is_over(tmp_path: Path) -> None:
    """It declares its consumers again then; it used to end, and its jobs with it."""
    with own_server(tmp_path) as server:
        settings = BusSettings(nats=server.url, root=fresh_root(), jobs_max_bytes=1 << 20, replies_max_bytes=64 << 20)
        with fleet_of(settings) as fleet:
            worker = fleet.worker("w1", "tone", 2, "--election-patience-s", "0.3", "--request-timeout-s", "0.3")
            with server.frozen():
                os.kill(host_pid(worker), signal.SIGKILL)
                await asyncio.to_thread(worker.wait_for, "pull.declare_failed")
            async with (
                asyncio.timeout(60),
                open_bus(settings, "test") as bus,
                JobListener(bus, tone_job(seconds=1)) as listener,
            ):
                received = await listener.to_the_end()
            assert received.pcm == tone_pcm(1)
            assert worker.process.poll() is None
