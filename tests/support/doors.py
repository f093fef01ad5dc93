"""Asking a gateway, and a gateway inside the test where its parts must be at hand."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer

from bus import wire
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from gateway.app import make_app
from gateway.codecs import WAV
from gateway.codecs.format import wav_head
from gateway.compose import Services, compose
from gateway.nats.api import NatsApi
from gateway.settings import GatewaySettings

SPEECH = "/v1/audio/speech"
#: A block each 50 ms, made in 50 ms: long enough to be hit in the middle.
STEADY = {"block_ms": 50, "compute_ms": 50, "device": "own"}


def tone(**fields: Any) -> dict[str, Any]:
    """A body that asks for `tone`; `params` as in the engine's own words."""
    return {"model": "tone", "input": "tone", **fields}


def wav(**fields: Any) -> dict[str, Any]:
    """`tone`, as a body of the speech door that asks for a WAV by default."""
    return {"response_format": "wav", **tone(**fields)}


def gated(path: Path, before_block: int, **params: Any) -> dict[str, Any]:
    """Params of a tone that waits for the file `path` before one of its blocks."""
    return {"device": "own", "gate": {"path": str(path), "before_block": before_block}, **params}


def wav_pcm(body: bytes) -> bytes:
    """The samples of a WAV whose sizes may be unknown."""
    return body[data_at(body) :]


def wav_sizes(body: bytes) -> tuple[int, int]:
    at = data_at(body)
    return struct.unpack("<I", body[4:8])[0], struct.unpack("<I", body[at - 4 : at])[0]


def data_at(body: bytes) -> int:
    """Where the samples of a WAV begin."""
    assert (body[:4], body[8:12]) == (b"RIFF", b"WAVE")
    at = 12
    while body[at : at + 4] != b"data":
        size = struct.unpack("<I", body[at + 4 : at + 8])[0]
        assert at + 8 + size + size % 2 < len(body), "no samples"
        at += 8 + size + size % 2
    return at + 8


def wav_head_bytes(job: str, model: str = "tone") -> int:
    """Size of the head of a job's WAV."""
    return len(wav_head(24_000, 1, None, WAV.tag(wire.Job(id=job, model=model, version="v1"))))


async def state_of(http: aiohttp.ClientSession, job: str) -> str:
    async with http.get(f"/v1/jobs/{job}") as answer:
        return str((await answer.json())["state"])


async def until_state(http: aiohttp.ClientSession, job: str, *states: str, within_s: float = 20.0) -> dict[str, Any]:
    """The job as shown once it is in one of `states`."""
    async with asyncio.timeout(within_s):
        while True:
            async with http.get(f"/v1/jobs/{job}") as answer:
                shown: dict[str, Any] = await answer.json()
            if shown.get("state") in states:
                return shown
            await asyncio.sleep(0.01)


async def accepted(http: aiohttp.ClientSession, body: dict[str, Any]) -> str:
    """The id of a job put in by `POST /v1/jobs`."""
    async with http.post("/v1/jobs", json=body) as answer:
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["id"])


class Events:
    """A stream of server-sent events, read event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._lines = response.content

    async def next(self) -> dict[str, Any] | None:
        """The next event (`id`, `event`, `data`) or comment (`comment`); None at the end."""
        event: dict[str, Any] = {}
        while line := await self._lines.readline():
            text = line.decode().rstrip("\n")
            if not text and event:
                return event
            name, _, value = text.partition(": ")
            if text and name != "retry":
                event[name or "comment"] = json.loads(value) if name == "data" else value
        return None

    async def until(self, kind: str, within_s: float = 20.0) -> list[dict[str, Any]]:
        """Every event up to the first of `kind`."""
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(within_s):
            while (event := await self.next()) is not None:
                seen.append(event)
                if event.get("event") == kind:
                    return seen
        raise AssertionError(f"the stream ended without {kind!r}: {seen}")

    async def rest(self, within_s: float = 20.0) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(within_s):
            while (event := await self.next()) is not None:
                seen.append(event)
        return seen


class _Over(Exception):
    """Ends the gateway's task group."""


@asynccontextmanager
async def gateway_here(settings: BusSettings, **more: Any) -> AsyncIterator[tuple[Services, aiohttp.ClientSession]]:
    """A gateway in this very process, and a session that asks it."""
    try:
        async with open_bus(settings, "gateway") as bus, asyncio.TaskGroup() as tasks:
            gateway = compose(bus, GatewaySettings(bus=settings, **more), tasks)
            await gateway.keys.refresh()
            tasks.create_task(gateway.fleet.run())
            tasks.create_task(gateway.routes.run())
            async with (
                TestServer(make_app(gateway)) as server,
                aiohttp.ClientSession(str(server.make_url("/"))) as http,
            ):
                yield gateway, http
            raise _Over
    except* _Over:
        await asyncio.sleep(0)


def nats_api(services: Services, tasks: asyncio.TaskGroup, **more: Any) -> NatsApi:
    """The NATS API of a gateway in this process; `more`: its own options."""
    parts = (
        services.jobs,
        services.fleet,
        services.routes,
        services.authenticator,
        services.limiter.requests,
        services.requests,
        services.pacing,
    )
    return NatsApi(*parts, tasks, **more)
