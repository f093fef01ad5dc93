"""Log events of a takeover: when it began, and how long the job made no entries."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from bus import wire
from bus.jobs.client import Bus
from tests.support.doors import gated
from tests.support.figures import until
from tests.support.jobs import JobListener, tone_job
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

STEADY = {"block_ms": 50, "compute_ms": 50}


def held(folder: Path) -> dict[str, Any]:
    """Params of a tone that does not end before its worker is killed, however long the other one takes to start."""
    return gated(folder / "open", 20, **STEADY)


@pytest.fixture
def ack_wait_s() -> float:
    """Only a gateway can take the job away in time."""
    return 120.0


async def known_to_hold(http: ClientSession, url: str) -> None:
    """Wait for the heartbeat that lists the job: a gateway without listeners knows of it by that alone."""
    await until(http, f"{url}/metrics", lambda samples: samples.get("antiphon_fleet_slots_used") == 1)


@pytest.mark.slow
async def test_a_takeover_is_logged_with_its_silence(
    fleet: Fleet, bus: Bus, http: ClientSession, tmp_path: Path
) -> None:
    gateway, url = await asyncio.to_thread(fleet.gateway)
    first = fleet.worker("w1")
    async with asyncio.timeout(60), JobListener(bus, tone_job(seconds=3, **held(tmp_path))) as listener:
        await listener.until_bytes(10_000)
        fleet.worker("w2")
        await asyncio.to_thread(gateway.wait_for, "worker.seen", 2)
        await known_to_hold(http, url)
        first.kill()
        (tmp_path / "open").touch()
        received = await listener.to_the_end()
        await eventually(lambda: gateway.events("takeover.done"))
    assert received.pcm == tone_pcm(3)
    (started,) = gateway.events("takeover.started")
    (done,) = gateway.events("takeover.done")
    assert {done["job"], started["job"]} == {listener.job.id}
    assert (done["worker"], done["by"], done["entry"]) == ("w1", "w2", "block")
    assert 0 < done["seconds"] < 15
    assert done["seconds"] <= done["since_pong_s"] <= done["seconds"] + 5


async def test_the_end_of_a_job_that_no_worker_goes_on_with_is_logged_too(
    fleet: Fleet, bus: Bus, http: ClientSession, tmp_path: Path
) -> None:
    gateway, url = await asyncio.to_thread(fleet.gateway)
    only = fleet.worker("w1")
    async with asyncio.timeout(60), JobListener(bus, tone_job(seconds=3, **held(tmp_path))) as listener:
        await listener.until_bytes(10_000)
        await known_to_hold(http, url)
        only.kill()
        await asyncio.to_thread(gateway.wait_for, "takeover.started")
        assert gateway.events("takeover.done") == []
        await bus.logs.end(listener.name, wire.End.CANCELLED, "by a test")
        await eventually(lambda: gateway.events("takeover.done"))
    (done,) = gateway.events("takeover.done")
    assert (done["entry"], done["by"]) == ("cancelled", None)
