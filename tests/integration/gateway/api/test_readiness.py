"""`/readyz` with real workers: a model that loads, and one that could not be loaded."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.support.programs import Fleet

ASKED = {"worker": "w1", "model": "piper"}


@pytest.mark.slow
async def test_a_model_that_could_not_be_loaded_is_reported_with_the_reason(fleet: Fleet) -> None:
    _, url = fleet.gateway()
    async with aiohttp.ClientSession(url) as http:
        async with http.get("/readyz", params=ASKED) as answer:
            assert (await answer.json())["missing"] == ["a worker that is ready", "w1: piper"]
        fleet.worker("w1", "tone,piper", 1, "--engine-option", "piper.voices=/nowhere")
        async with asyncio.timeout(20):
            while (shown := await readiness(http)).get("failed") is None:
                await asyncio.sleep(0.02)
        reason = "RuntimeError: no usable voice in /nowhere: it is no folder"
        assert shown["failed"] == {"w1": {"piper": reason}}
        assert shown["missing"] == [f"w1: piper: {reason}"]
        async with http.get("/readyz", params={"worker": "w1", "model": "tone"}) as answer:
            assert answer.status == 200, "the other models are served"


async def readiness(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.get("/readyz", params=ASKED) as answer:
        # 200 while the model is still loading: a job of it would be accepted
        assert answer.status in {200, 503}
        shown: dict[str, Any] = await answer.json()
        return shown
