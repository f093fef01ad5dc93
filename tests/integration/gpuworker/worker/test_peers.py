"""Which worker yields to which: backups always, and every worker while its models are still loading."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from bus import wire
from bus.jobs.client import Bus
from gpuworker.settings import WorkerSettings
from gpuworker.worker.peers import Peers
from tests.support.stub_worker import beat
from tests.support.waiting import eventually


class Bench:
    """The peers of `w2`, which offers `tone`; its clock stands still, so that no worker is silent for too long."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.num_changes = 0
        settings = WorkerSettings(bus=bus.settings, id="w2")
        self.peers = Peers(bus, settings, self._on_change, clock=lambda: 1000.0)

    def _on_change(self) -> None:
        self.num_changes += 1

    def send_heartbeat(self, worker: str, **fields: object) -> None:
        heartbeat = msgspec.structs.replace(beat(worker, "b1", []), **{"slots": 8, "free": 3, **fields})
        self.bus.connection.publish(self.bus.subjects.heartbeat(worker), wire.encode(heartbeat))


@pytest.fixture
async def bench(bus: Bus) -> AsyncIterator[Bench]:
    made = Bench(bus)
    unsubscribe = made.peers.listen()
    made.peers.offer(["tone"], is_loading=True)
    yield made
    unsubscribe()


async def test_a_worker_that_still_loads_leaves_jobs_to_one_that_is_free(bench: Bench) -> None:
    assert bench.peers.yields_to_primaries
    assert bench.peers.room is None
    bench.send_heartbeat("w1")
    await eventually(lambda: bench.peers.room == 0, within_s=20)
    bench.peers.offer(["tone"], is_loading=False)
    assert not bench.peers.yields_to_primaries
    assert bench.peers.room is None


async def test_it_takes_them_when_the_other_is_full_or_loads_as_well(bench: Bench) -> None:
    for busy in ({"free": 0}, {"loading": True}, {"backup": True}, {"state": "draining"}, {"breaker": "open"}):
        bench.send_heartbeat("w1")
        await eventually(lambda: bench.peers.room == 0, within_s=20)
        bench.send_heartbeat("w1", **busy)
        await eventually(lambda: bench.peers.room is None, within_s=20)


async def test_the_report_that_the_other_died_ends_the_wait_at_once(bench: Bench) -> None:
    bench.send_heartbeat("w1")
    await eventually(lambda: bench.peers.room == 0, within_s=20)
    num_changes = bench.num_changes
    bench.bus.connection.publish(bench.bus.subjects.gone("w1"), b"b1")
    await eventually(lambda: bench.peers.room is None and bench.num_changes > num_changes, within_s=20)


async def test_every_live_worker_counts_whatever_it_offers_until_it_is_silent_or_gone(bus: Bus) -> None:
    now_s = [1000.0]
    peers = Peers(bus, WorkerSettings(bus=bus.settings, id="w2"), lambda: None, clock=lambda: now_s[0])
    unsubscribe = peers.listen()
    try:
        for worker, state in (("w1", "ready"), ("w2", "ready"), ("w3", "starting"), ("w4", "draining")):
            beating = msgspec.structs.replace(beat(worker, "b1", []), state=state, models=["other"])
            bus.connection.publish(bus.subjects.heartbeat(worker), wire.encode(beating))
        await eventually(lambda: peers.num_live() == 4)
        bus.connection.publish(bus.subjects.gone("w3"), b"")
        await eventually(lambda: peers.num_live() == 3)
        now_s[0] += 10.0
        assert peers.num_live() == 1
    finally:
        unsubscribe()
