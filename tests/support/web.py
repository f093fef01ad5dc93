"""A client of the HTTP doors, for tests."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientResponse, ClientSession
from yarl import URL

#: Headers of a request that makes a run of its own: equal ones would all hear one job, and after it its log.
OWN_RUN = {"Cache-Control": "no-store"}


def speech(model: str = "tone", text: str = "tone", **fields: Any) -> dict[str, Any]:
    """Body of an OpenAI-door request for PCM; keyword arguments that the door does not know are the engine's params."""
    known = {"voice", "response_format", "lane", "run_on", "linger_s", "seed", "speed", "script"}
    own = {name: fields.pop(name) for name in list(fields) if name in known}
    return {"model": model, "input": text, "voice": "", "response_format": "pcm", **own, "params": fields}


def base_of(http: ClientSession) -> URL:
    """The base URL that a session was made with."""
    base = http._base_url
    assert base is not None
    return base


class Body:
    """A streaming answer, read piece by piece."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.data = b""

    @property
    def job(self) -> str:
        return self.response.headers["Antiphon-Job"]

    async def at_least(self, num_bytes: int) -> bytes:
        while len(self.data) < num_bytes:
            piece = await self.response.content.readany()
            assert piece, f"the body ended after {len(self.data)} bytes"
            self.data += piece
        return self.data

    async def rest(self) -> bytes:
        self.data += await self.response.content.read()
        return self.data


async def state(http: ClientSession, url: str, job: str) -> dict[str, Any]:
    async with http.get(f"{url}/v1/jobs/{job}") as response:
        assert response.status == 200, await response.text()
        return dict(await response.json())


async def until_state(http: ClientSession, url: str, job: str, wanted: str, within_s: float = 20.0) -> dict[str, Any]:
    """The job's status once its state is `wanted`."""
    async with asyncio.timeout(within_s):
        while (found := await state(http, url, job))["state"] != wanted:
            await asyncio.sleep(0.02)
    return found


async def sse(response: ClientResponse) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """(id, event, data) of each server-sent event."""
    name, last_id, data = "", "", ""
    async for raw in response.content:
        line = raw.decode().rstrip("\n").rstrip("\r")
        if line.startswith(":"):
            continue
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "id":
            last_id = value
        elif key == "data":
            data += value
        elif not line and (name or data):
            yield last_id, name, json.loads(data or "{}")
            name, data = "", ""


async def ready(http: ClientSession, url: str, within_s: float = 20.0) -> None:
    """Until the gateway says that a request would succeed."""
    async with asyncio.timeout(within_s):
        while True:
            async with http.get(f"{url}/readyz") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.02)


async def knows_every_model(http: ClientSession, url: str, within_s: float = 20.0) -> None:
    """Until the gateway refuses a model that no worker has, 404: a young gateway says that its worker may yet appear."""
    async with asyncio.timeout(within_s):
        while True:
            async with http.post(f"{url}/v1/jobs", json={"model": "no-such-model", "input": "x"}) as response:
                if response.status == 404:
                    return
            await asyncio.sleep(0.1)
