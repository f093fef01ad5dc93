"""A range that begins within the first frame, of a job that told of its progress before it was heard."""

import random

import pytest

from bus import wire
from bus.settings import BusSettings
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job
from tests.support.slow import Maker


@pytest.mark.parametrize("num_steps", [1, 300])
async def test_it_has_the_very_bytes_that_were_asked_for(bus_settings: BusSettings, num_steps: int) -> None:
    """A page of the log has 256 entries at most: after 300 steps nothing is heard in the first."""
    pcm = random.Random(2).randbytes(48_000)
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job(run_on=True)
        await gateway.jobs.accept(job)
        maker = await Maker.of(gateway.bus, job)
        for n in range(num_steps):
            await maker._writer.progress(wire.Progress(phase="steps", done=n, total=num_steps))
        await maker._writer.block(pcm, 24_000)
        await maker.end()
        async with http.get(f"/v1/jobs/{job.id}/audio?format=pcm", headers={"Range": "bytes=1-9"}) as answer:
            assert answer.status == 206
            assert await answer.read() == pcm[1:10]
