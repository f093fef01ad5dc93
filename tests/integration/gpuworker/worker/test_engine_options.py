"""`--engine-option`: from a worker's command line to the engine in its host."""

import asyncio

from bus import wire
from bus.jobs.client import Bus
from tests.support.jobs import listen, tone_job
from tests.support.programs import Fleet


async def test_an_engine_option_reaches_the_engine_in_its_host(fleet: Fleet, bus: Bus) -> None:
    fleet.worker("w1", "tone", 8, "--no-allow-faults", "--engine-option", "tone.allow_faults=true")
    async with asyncio.timeout(30):
        received = await listen(bus, tone_job(seconds=1, fault={"kind": "raise", "at_block": 2}))
    assert wire.decode(wire.Failed, received.end.payload).code == "engine_failed"


async def test_a_worker_with_a_misspelt_engine_option_does_not_start(fleet: Fleet) -> None:
    worker = fleet.worker("w1", "tone", 8, "--engine-option", "tone.alow_faults=true", wait=False)
    assert await asyncio.to_thread(worker.process.wait, 30) == 2
    assert "unknown option engines.tone.alow_faults; did you mean 'allow_faults'?" in worker.log()
