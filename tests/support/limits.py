"""Gateways that share limits, and keys with limits."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse, ClientSession

from bus.access.keys import Keys, Limits
from bus.settings import BusSettings
from tests.support.programs import Fleet, Program


@dataclass
class Stack:
    """Gateways before one worker."""

    fleet: Fleet
    settings: BusSettings
    gateways: list[Program]
    urls: list[str]
    keys: Keys = field(repr=False)

    async def key(self, tenant: str = "acme", **limits: Any) -> dict[str, str]:
        """Headers of a new key with these limits, once every gateway knows it."""
        _, text = await self.keys.create(tenant, Limits(**limits))
        headers = {"Authorization": f"Bearer {text}"}
        async with asyncio.timeout(30), ClientSession() as http:
            for url in self.urls:
                while await status_of(http.get(f"{url}/v1/jobs", headers=headers)) != 200:
                    await asyncio.sleep(0.02)
        return headers


def job(seconds: float = 0.02, **fields: Any) -> dict[str, Any]:
    """The body of a job of `tone`."""
    return {"model": "tone", "input": "x", "params": {"seconds": seconds}, **fields}


async def status_of(request: AbstractAsyncContextManager[ClientResponse]) -> int:
    """The status of an answer that is read to its end."""
    async with request as answer:
        await answer.read()
        return answer.status
