"""A new audio format is an entry in `FORMATS` and one in `CONTAINERS`, and nothing else."""

import asyncio

import numpy as np
import pytest

from bus.settings import BusSettings
from gateway.codecs.format import FORMATS, Codec, Format
from gateway.codecs.libav import CONTAINERS, Container
from tests.support.codecs import decoded
from tests.support.doors import gateway_here, tone
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

SECONDS = 1.3


@pytest.fixture(autouse=True)
def au(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "au", Codec(content_type="audio/x-au", max_channels=8))
    monkeypatch.setitem(CONTAINERS, "au", Container(container="au", encoder="pcm_s16be"))


async def test_a_format_of_two_table_entries_is_streamed_cached_and_served_as_a_file(
    bus_settings: BusSettings, fleet: Fleet
) -> None:
    fleet.worker("w1", "tone", 1)
    async with gateway_here(bus_settings) as (gateway, http):
        await eventually(lambda: gateway.fleet.card("tone"))
        body = tone(response_format="au", params={"seconds": SECONDS})
        async with asyncio.timeout(60), http.post("/v1/audio/speech", json=body) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, "audio/x-au")
            streamed, job = await answer.read(), answer.headers["Antiphon-Job"]
        async with http.post("/v1/audio/speech", json=body) as answer:
            assert (answer.headers["Antiphon-Cache"], await answer.read()) == ("hit", streamed)
        async with http.get(f"/v1/jobs/{job}/audio?format=au", headers={"Range": "bytes=0-9"}) as answer:
            assert (answer.status, len(await answer.read())) == (206, 10)
        async with http.get(f"/v1/jobs/{job}/audio?format=midi") as answer:
            assert (await answer.json())["detail"].endswith("is not one of " + ", ".join(FORMATS))
    samples, rate_hz = decoded(streamed, Format("au"), 24_000, 1)
    assert rate_hz == 24_000
    assert np.array_equal(samples[:, 0], np.frombuffer(tone_pcm(SECONDS), "<i2"))
