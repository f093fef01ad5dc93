"""How much of a worker's time measuring takes, under more jobs than it can measure, by its own metrics.

pytest -m slow -s tests/integration/gpuworker/worker/test_patrol_share.py
"""

import asyncio
import time

import pytest
from aiohttp import ClientSession

from gpuworker.worker.patrol_budget import SHARE
from tests.support.doors import SPEECH
from tests.support.figures import metrics_url, scrape
from tests.support.programs import Fleet
from tests.support.web import ready

LOAD_S = 20.0
TEXT = "The harbor was quiet when the first boat came in this morning, and nobody knew why. "


@pytest.mark.slow
async def test_measuring_stays_within_its_share_under_load(fleet: Fleet, http: ClientSession) -> None:
    began_at = time.monotonic()
    worker = fleet.worker("w1", "speech", 4, "--metrics-port", "0", "--log-level", "info")
    _, url = fleet.gateway()
    await ready(http, url)
    figures_url = metrics_url(worker)

    async def load(number: int) -> None:
        until = time.monotonic() + LOAD_S
        while time.monotonic() < until:
            number += 100
            body = {"model": "speech", "input": f"{number}. {TEXT * 3}", "response_format": "pcm"}
            async with http.post(f"{url}{SPEECH}", json=body) as answer:
                assert answer.status in {200, 507}
                await answer.read()
            if answer.status == 507:  # a fast machine fills the small store of the tests
                await asyncio.sleep(0.2)

    await asyncio.gather(*(load(number) for number in range(4)))
    figures = await scrape(http, figures_url)
    wall_s = time.monotonic() - began_at
    spent_s = figures.get("antiphon_quality_processor_seconds_total") or 0.0
    ended = {labels[1]: count for labels, count in figures.of("antiphon_quality_jobs_total").items()}
    audio_s = figures.get("antiphon_audio_seconds_total", model="speech") or 0.0
    print(
        f"\n{spent_s:.3f} s of a processor in {wall_s:.1f} s: {100 * spent_s / wall_s:.2f} %; {ended}; {audio_s:.0f} s of audio"
    )
    assert ended.get("measured", 0) > 0
    assert ended.get("busy", 0) > 0, "the load was too small to reach the limit"
    # A piece of a second that begins while there is time may end after it.
    assert spent_s <= SHARE * wall_s + 0.2
