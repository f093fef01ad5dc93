"""A job is delivered while REPLIES has no room even for its lease: it is kept, and runs once there is some."""

import asyncio
from unittest.mock import Mock

import pytest

from bus.jobs.client import Bus
from bus.jobs.status import status
from bus.jobs.submit import submit
from bus.settings import BusSettings
from gpuworker.worker.deliveries import Deliveries
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.intake import Intake
from gpuworker.worker.patrol import Patrols
from gpuworker.worker.storage import StorageGate
from gpuworker.worker.stream import HandBack
from tests.support.bus import claims, key_of, pull
from tests.support.full_stream import empty, fill
from tests.support.jobs import tone_job
from tests.support.stub_worker import CARD

WITHIN_S = 30.0


@pytest.fixture
def bus_settings(nats_url: str, root: str) -> BusSettings:
    return BusSettings(nats=nats_url, root=root, ack_wait_s=1.0, jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)


@pytest.mark.parametrize("drains", [False, True])
async def test_a_delivery_is_kept_until_its_lease_fits_or_the_worker_drains(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, drains: bool
) -> None:
    monkeypatch.setattr("gpuworker.worker.deliveries._CLAIM_AGAIN_S", 0.05)
    job, tries = tone_job(), 0
    await bus.topology.declare_consumers("tone", "v1")
    await submit(bus, job)
    other = await fill(bus)
    intake, by = Mock(Intake, is_closed=False), claims(bus)
    claim = by.claim

    async def counted(*args: object) -> object:
        nonlocal tries
        tries += 1
        return await claim(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(by, "claim", counted)
    host = Mock(EngineHost, open=Mock(side_effect=HandBack("the test has seen enough")))
    deliveries = Deliveries(bus, host, by, {"tone": CARD}, intake, Mock(StorageGate), Mock(Patrols), lambda: None)
    delivery = await pull(bus)
    handling = asyncio.create_task(deliveries.handle(delivery, 1))
    async with asyncio.timeout(WITHIN_S):
        while tries < 5:
            await asyncio.sleep(0.01)
        assert (await status(bus.logs, key_of(bus, job))).state == "queued"
        if drains:
            intake.is_closed = True
        else:
            await empty(bus, other)
        await handling
    found = await status(bus.logs, key_of(bus, job))
    if drains:
        assert found.lease is None
    else:
        assert found.lease is not None
        assert (found.lease.state, found.lease.attempt) == ("handed_back", 1)
