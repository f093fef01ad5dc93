"""Our own code raises on a job: that job fails and is a dead letter, and the task that handled it raises nothing."""

from typing import Any
from unittest.mock import Mock

import pytest

from bus import wire
from bus.jobs.client import Bus
from bus.jobs.submit import submit
from gpuworker.worker.deliveries import Deliveries
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.intake import Intake
from gpuworker.worker.patrol import Patrols
from gpuworker.worker.storage import StorageGate
from tests.support.bus import claims, entries, key_of, kinds, num_jobs, pull, until
from tests.support.jobs import tone_job
from tests.support.stub_worker import CARD


@pytest.fixture
def ack_wait_s() -> float:
    """A message that is not settled is delivered again long after the test has failed."""
    return 30.0


def broken(*_: Any, **__: Any) -> Any:
    raise OverflowError("can't serialize ints")


def deliveries_of(bus: Bus) -> Deliveries:
    """A worker's deliveries whose engine host raises when a job is opened."""
    host = Mock(EngineHost, open=broken)
    return Deliveries(
        bus, host, claims(bus), {"tone": CARD}, Mock(Intake), Mock(StorageGate), Mock(Patrols), lambda: None
    )


async def dead(bus: Bus) -> list[wire.DeadJob]:
    page, _ = await bus.js.direct.page(bus.subjects.dead_stream, bus.subjects.dead, 1)
    return [wire.decode(wire.DeadJob, stored.message.data) for stored in page]


async def queued(bus: Bus) -> wire.Job:
    job = tone_job()
    await bus.topology.declare_consumers("tone", "v1")
    await submit(bus, job)
    return job


@pytest.mark.parametrize("place", ["host", "lease"])
async def test_a_job_on_which_our_code_raises_fails_once_and_is_counted(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    job, log = await queued(bus), Mock()
    monkeypatch.setattr("gpuworker.worker.deliveries.log", log)
    delivery, deliveries = await pull(bus), deliveries_of(bus)
    if place == "lease":
        monkeypatch.setattr("bus.jobs.claim.Claims.claim", broken)
    await deliveries.handle(delivery, 1)
    stored = await entries(bus, key_of(bus, job))
    failed = wire.decode(wire.Failed, stored[-1].payload)
    assert (kinds(stored), failed.code) == (["failed"], "interrupted")
    assert "OverflowError: can't serialize ints" in failed.message
    assert [(letter.payload, "in broken" in letter.traceback) for letter in await dead(bus)] == [
        (delivery.payload, True)
    ]
    assert deliveries.runs == {}

    async def emptied() -> bool:
        return await num_jobs(bus) == 0

    await until(emptied)
    assert [call.args for call in log.error.call_args_list] == [("job.crashed",)]


async def test_a_message_that_cannot_even_be_dead_lettered_stays_in_the_queue(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queued(bus)
    delivery, deliveries = await pull(bus), deliveries_of(bus)
    monkeypatch.setattr(bus.logs, "create", broken)
    await deliveries.handle(delivery, 1)
    assert (await num_jobs(bus), await dead(bus)) == (1, [])
