"""REPLIES full of what runs: blocks wait, every job can still be ended, and nothing innocent pays (rule 15)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from bus.jobs.client import Bus, open_bus
from bus.jobs.retention import BLOCKS_STOP_ABOVE, BULK_RESUMES_BELOW
from bus.jobs.status import status
from bus.jobs.submit import submit
from bus.settings import BusSettings
from bus.subjects import JobKey
from tests.support.bus import entries
from tests.support.jobs import tone_job
from tests.support.nats import fresh_root
from tests.support.programs import Fleet
from tests.support.restarts import Server, own_server
from tests.support.tone import tone_pcm

LIMIT_BYTES = 64 << 20
#: Jobs that need more than the store together, none of them a quarter of it.
NUM_LARGE, LARGE_S = 6, 300.0
INNOCENT_S = 5.0
WITHIN_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> AsyncIterator[Server]:
    with own_server(tmp_path) as server:
        yield server


@pytest.fixture
def bus_settings(server: Server) -> BusSettings:
    return BusSettings(
        nats=server.url, root=fresh_root(), ack_wait_s=2.0, jobs_max_bytes=8 << 20, replies_max_bytes=LIMIT_BYTES
    )


async def shown(http: ClientSession, url: str, job: str) -> dict[str, Any]:
    async with http.get(f"{url}/v1/jobs/{job}") as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


async def until_shown(http: ClientSession, url: str, job: str, **fields: object) -> dict[str, Any]:
    """Wait until a job shows these values; None: the field is absent."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            found = await shown(http, url, job)
            if all(found.get(name) == value for name, value in fields.items()):
                return found
            await asyncio.sleep(0.1)


async def until_status(bus: Bus, key: JobKey, state: str, waiting_for: str = "") -> None:
    """Wait for this state in the log, which must show the first attempt."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            found = await status(bus.logs, key)
            if found.lease is not None and (found.state, found.lease.waiting_for) == (state, waiting_for):
                assert found.lease.attempt == 1
                return
            await asyncio.sleep(0.1)


async def start(bus: Bus, seconds: float, **params: Any) -> str:
    """Publish a job as no gateway does that looks at the room first; its id."""
    job = tone_job(seconds=seconds, device="own", run_on=True, **params)
    await submit(bus, job)
    return job.id


async def cancel(http: ClientSession, url: str, job: str) -> None:
    async with http.delete(f"{url}/v1/jobs/{job}") as answer:
        assert (answer.status, (await answer.json())["state"]) == (200, "cancelled")


async def level(bus: Bus) -> float:
    return float((await bus.js.info(bus.subjects.replies_stream))["state"]["bytes"]) / LIMIT_BYTES


async def assert_whole_at_the_first_attempt(bus: Bus, key: JobKey, seconds: float) -> None:
    log = await entries(bus, key)
    assert b"".join(entry.payload for entry in log if entry.kind == "block") == tone_pcm(seconds)
    assert [entry.started.attempt for entry in log if entry.started is not None] == [1]


@pytest.mark.slow
async def test_a_store_full_of_what_runs_stops_blocks_and_lets_every_job_be_ended(
    bus_settings: BusSettings, fleet: Fleet, http: ClientSession, server: Server, tmp_path: Path
) -> None:
    worker = fleet.worker()
    gateway, url = fleet.gateway()
    async with open_bus(bus_settings, "test") as bus:
        gate = tmp_path / "gate"
        of_other = {"path": str(gate), "before_block": 5}
        innocent = bus.subjects.job_key("other", await start(bus, INNOCENT_S, tenant="other", gate=of_other))
        large = [await start(bus, LARGE_S) for _ in range(NUM_LARGE)]
        for job in large:
            await until_shown(http, url, job, waiting_for="storage")
        # One that is not far ahead finds the room that the others must leave.
        gate.touch()
        await until_status(bus, innocent, "done")
        await assert_whole_at_the_first_attempt(bus, innocent, INNOCENT_S)
        assert BULK_RESUMES_BELOW < await level(bus) < BLOCKS_STOP_ABOVE + 0.02
        # Nothing of it is in the memory of a process.
        gateway.kill()
        await asyncio.to_thread(server.restart)
        gateway, url = await asyncio.to_thread(fleet.gateway)
        kept, *rest = large
        for job in large:
            found = await until_shown(http, url, job, waiting_for="storage")
            assert (found["state"], found["attempts"]) == ("running", 1)
        for job in rest:
            await cancel(http, url, job)
        await until_shown(http, url, kept, state="done")
        await assert_whole_at_the_first_attempt(bus, bus.subjects.job_key("public", kept), LARGE_S)
    assert worker.events("job.bus_unreachable") == []
    assert kept in {event["job"] for event in worker.events("job.resumed")}


@pytest.mark.slow
async def test_a_worker_that_is_replaced_while_its_jobs_wait_costs_them_no_attempt(
    bus_settings: BusSettings, fleet: Fleet, http: ClientSession
) -> None:
    worker = fleet.worker("w1", "tone", 8, "--drain-s", "0.5")
    _, url = fleet.gateway()
    async with open_bus(bus_settings, "test") as bus:
        large = [await start(bus, LARGE_S) for _ in range(NUM_LARGE)]
        for job in large:
            await until_shown(http, url, job, waiting_for="storage")
        fleet.worker("w2")
        await asyncio.to_thread(worker.stop, 60.0)
        for job in large:
            found = await until_shown(http, url, job, waiting_for="storage", worker="w2")
            assert (found["state"], found["attempts"]) == ("running", 1)
        kept, *rest = large
        for job in rest:
            await cancel(http, url, job)
        found = await until_shown(http, url, kept, state="done")
        assert found["attempts"] == 1
