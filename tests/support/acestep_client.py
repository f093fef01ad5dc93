"""A plain client of ACE-Step's API, for tests."""

import asyncio
from typing import Any

import aiohttp


def song(**fields: Any) -> dict[str, Any]:
    """A task of the model `tone`: a short WAV."""
    return {"prompt": "a tone", "model": "tone", "audio_format": "wav", "audio_duration": 0.5, **fields}


async def released(http: aiohttp.ClientSession, **sent: Any) -> dict[str, Any]:
    """The data of a task that was accepted."""
    async with http.post("/release_task", **sent) as answer:
        assert answer.status == 200, await answer.text()
        envelope = await answer.json()
    assert (envelope["code"], envelope["error"], envelope["extra"]) == (200, None, None)
    assert envelope["timestamp"] > 1_700_000_000_000
    return dict(envelope["data"])


async def queried(http: aiohttp.ClientSession, *tasks: str) -> list[dict[str, Any]]:
    """The entries of tasks."""
    async with http.post("/query_result", json={"task_id_list": list(tasks)}) as answer:
        assert answer.status == 200, await answer.text()
        return list((await answer.json())["data"])


async def settled(http: aiohttp.ClientSession, task: str) -> dict[str, Any]:
    """The entry of a task, once its status is not 0."""
    async with asyncio.timeout(20):
        while (entry := (await queried(http, task))[0])["status"] == 0:
            await asyncio.sleep(0.02)
    return entry
