"""Measures of a job's audio, over HTTP."""

from typing import Any

import aiohttp

from tests.support import fleets
from tests.support.doors import until_state

stack = fleets.stack("speech,tone", 2)
http = fleets.http()


async def measured(http: aiohttp.ClientSession) -> dict[str, Any]:
    """Measures of a job; a machine that is too busy for one measures another."""
    for number in range(30):
        text = f"The harbor was quiet when boat number {number} came in this morning."
        async with http.post("/v1/jobs", json={"model": "speech", "input": text}) as answer:
            job = (await answer.json())["id"]
        if quality := (await until_state(http, job, "done")).get("quality"):
            return quality
    raise AssertionError("no job was measured")


async def test_a_job_that_is_done_shows_the_measures_of_its_audio(http: aiohttp.ClientSession) -> None:
    quality = await measured(http)
    assert "flags" not in quality  # none
    assert -40 < quality["loudness_lufs"] < -10
    assert -20 < quality["true_peak_dbtp"] < 1
    assert 0.1 < quality["bound_share"] < 1


async def test_a_model_without_limits_is_not_measured(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/jobs", json={"model": "tone", "input": "x", "params": {"seconds": 1.5}}) as answer:
        job = (await answer.json())["id"]
    assert "quality" not in await until_state(http, job, "done")
    async with http.get("/v1/models") as answer:
        cards = {model["id"]: model for model in (await answer.json())["data"]}
    assert cards["speech"]["quality"]["max_repeats"] == 3
    assert "quality" not in cards["tone"]
