"""One fleet for every test of the ElevenLabs doors, and the clients that ask it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import aiohttp
import elevenlabs
import httpx
import pytest

from bus.settings import BusSettings
from tests.support.elevenlabs_client import Stack
from tests.support.nats import fresh_root
from tests.support.programs import fleet_of


@pytest.fixture(scope="package")
def stack(nats_url: str) -> Iterator[Stack]:
    """Bus, worker, URL, for every test here."""
    settings = BusSettings(nats=nats_url, root=fresh_root(), jobs_max_bytes=64 << 20, replies_max_bytes=256 << 20)
    with fleet_of(settings) as fleet:
        _, url = fleet.gateway()
        yield settings, fleet.worker("w1", "tone,speech", 4, "--max-fails", "100"), url


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(stack[2]) as http:
        async with asyncio.timeout(20):
            # A gateway that is a moment old does not say of a model that nobody has it.
            while (await http.get("/readyz")).status != 200 or (await http.get("/v1/voices?model=zzz")).status != 404:
                await asyncio.sleep(0.02)
        yield http


@pytest.fixture
def client(stack: Stack, http: aiohttp.ClientSession) -> Iterator[elevenlabs.ElevenLabs]:
    with httpx.Client(timeout=20) as transport:  # the package never closes one of its own
        yield elevenlabs.ElevenLabs(base_url=stack[2], httpx_client=transport)


@pytest.fixture
async def aclient(stack: Stack, http: aiohttp.ClientSession) -> AsyncIterator[elevenlabs.AsyncElevenLabs]:
    async with httpx.AsyncClient(timeout=20) as transport:
        yield elevenlabs.AsyncElevenLabs(base_url=stack[2], httpx_client=transport)
