"""Who stands back for whom: backups always, and every worker while models are still to be loaded."""

from collections.abc import AsyncIterator
from types import SimpleNamespace

import msgspec
import pytest

from bus import wire
from bus.jobs.client import Bus
from gpuworker.settings import WorkerSettings
from gpuworker.worker.peers import Peers
from tests.support.stub_worker import beat
from tests.support.waiting import eventually


class Here:
    """The peers of `w2`, which offers `tone`."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.changes = bus, 0
        self.peers = Peers(bus, WorkerSettings(bus=bus.settings, id="w2"), self._changed)
        self._asked = 0

    def _changed(self) -> None:
        self.changes += 1

    def says(self, worker: str, **fields: object) -> None:
        told = msgspec.structs.replace(beat(worker, "b1", []), **{"slots": 8, "free": 3, **fields})
        self.bus.connection.publish(self.bus.subjects.heartbeat(worker), wire.encode(told))


@pytest.fixture
async def here(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    """For the peers time stands still: nobody is silent for too long, however long a wait takes."""
    monkeypatch.setattr("gpuworker.worker.peers.time", SimpleNamespace(monotonic=lambda: 1000.0))
    made = Here(bus)
    deaf = made.peers.listen()
    made.peers.serves(["tone"], is_loading=True)
    yield made
    deaf()


async def test_a_worker_that_still_loads_leaves_jobs_to_one_that_is_free(here: Here) -> None:
    assert here.peers.stands_back
    assert here.peers.room is None
    here.says("w1")
    await eventually(lambda: here.peers.room == 0, within_s=20)
    here.peers.serves(["tone"], is_loading=False)
    assert not here.peers.stands_back
    assert here.peers.room is None


async def test_it_takes_them_when_the_other_is_full_or_loads_as_well(here: Here) -> None:
    for busy in ({"free": 0}, {"loading": True}, {"backup": True}, {"state": "draining"}, {"breaker": "open"}):
        here.says("w1")
        await eventually(lambda: here.peers.room == 0, within_s=20)
        here.says("w1", **busy)
        await eventually(lambda: here.peers.room is None, within_s=20)


async def test_the_word_that_the_other_died_ends_the_wait_at_once(here: Here) -> None:
    here.says("w1")
    await eventually(lambda: here.peers.room == 0, within_s=20)
    changes = here.changes
    here.bus.connection.publish(here.bus.subjects.gone("w1"), b"b1")
    await eventually(lambda: here.peers.room is None and here.changes > changes, within_s=20)
