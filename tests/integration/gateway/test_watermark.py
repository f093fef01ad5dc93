"""The marking `inaudible`, with a watermark that a third party has installed on the worker."""

import asyncio
from pathlib import Path

import numpy as np

from bus.settings import BusSettings
from tests.support import engine_package
from tests.support.doors import SPEECH, gateway_here, tone
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually
from tests.support.watermark import noise

SECONDS = 0.4


async def test_the_worker_puts_the_watermark_in_and_the_header_says_so(
    bus_settings: BusSettings, tmp_path: Path
) -> None:
    source = "from tests.support.watermark import Noise"
    engine_package.install(tmp_path, "noise", "Noise", source, group="antiphon.watermarks")
    with engine_package.worker(bus_settings, tmp_path, "tone", "w1"):
        async with gateway_here(bus_settings, marking="inaudible") as (gateway, http):
            await eventually(lambda: gateway.fleet.card("tone"))
            card = gateway.fleet.card("tone")
            assert card is not None
            assert card.watermark == "noise"
            for form, marks in (("pcm", "inaudible"), ("wav", "tag, inaudible")):
                body = tone(response_format=form, params={"seconds": SECONDS})
                async with asyncio.timeout(30), http.post(SPEECH, json=body) as answer:
                    assert (answer.status, answer.headers["Antiphon-Marked"]) == (200, marks)
                    job, pcm = answer.headers["Antiphon-Job"], (await answer.read())[-round(48_000 * SECONDS) :]
                plain = np.frombuffer(tone_pcm(SECONDS), "<i2")
                added = np.frombuffer(pcm, "<i2").astype(np.int64) - plain
                assert np.array_equal(added, noise(job, 0, len(plain)))
