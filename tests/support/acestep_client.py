"""A plain client of ACE-Step's API, for tests."""

import asyncio
from typing import Any

import aiohttp


def song(**fields: Any) -> dict[str, Any]:
    """What asks `tone` for a short wave in WAV."""
    return {"prompt": "a tone", "model": "tone", "audio_format": "wav", "audio_duration": 0.5, **fields}


async def released(http: aiohttp.ClientSession, **sent: Any) -> dict[str, Any]:
    async with http.post("/release_task", **sent) as answer:
        assert answer.status == 200, await answer.text()
        told = await answer.json()
    assert (told["code"], told["error"], told["extra"]) == (200, None, None)
    assert told["timestamp"] > 1_700_000_000_000
    return dict(told["data"])


async def queried(http: aiohttp.ClientSession, *tasks: str) -> list[dict[str, Any]]:
    async with http.post("/query_result", json={"task_id_list": list(tasks)}) as answer:
        assert answer.status == 200, await answer.text()
        return list((await answer.json())["data"])


async def settled(http: aiohttp.ClientSession, task: str) -> dict[str, Any]:
    """The task once it is no longer at status 0."""
    async with asyncio.timeout(20):
        while (told := (await queried(http, task))[0])["status"] == 0:
            await asyncio.sleep(0.02)
    return told
