"""Puts blobs, as a client does."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientSession

from bus.access.keys import Keys, Limits
from bus.jobs.client import Bus
from tests.support.limits import status_of


async def becomes(read: Callable[[], Awaitable[object]], wanted: object) -> None:
    async with asyncio.timeout(20):
        while await read() != wanted:
            await asyncio.sleep(0.01)


async def put(http: ClientSession, data: Any, **options: Any) -> tuple[int, dict[str, Any]]:
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    async with http.put("/v1/blobs", data=body, **options) as answer:
        return answer.status, await answer.json(content_type=None)


async def key_of(http: ClientSession, bus: Bus, tenant: str) -> dict[str, str]:
    """Headers of a new key, once the gateway has it."""
    _, key = await Keys(bus).create(tenant, Limits())
    headers = {"Authorization": f"Bearer {key}"}
    async with asyncio.timeout(20):
        while await status_of(http.get("/v1/jobs", headers=headers)) != 200:
            await asyncio.sleep(0.02)
    return headers
