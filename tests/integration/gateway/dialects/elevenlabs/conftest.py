"""One fleet for every test of the ElevenLabs dialect, and the clients of it."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import elevenlabs
import httpx
import pytest

from tests.support import fleets
from tests.support.fleets import Stack

stack = fleets.stack("tone,speech", 4, "--max-fails", "100", knows_all=True, scope="package")
http = fleets.http()


@pytest.fixture
def client(stack: Stack, http: aiohttp.ClientSession) -> Iterator[elevenlabs.ElevenLabs]:
    with httpx.Client(timeout=20) as transport:  # the package never closes one of its own
        yield elevenlabs.ElevenLabs(base_url=stack.url, httpx_client=transport)


@pytest.fixture
async def aclient(stack: Stack, http: aiohttp.ClientSession) -> AsyncIterator[elevenlabs.AsyncElevenLabs]:
    async with httpx.AsyncClient(timeout=20) as transport:
        yield elevenlabs.AsyncElevenLabs(base_url=stack.url, httpx_client=transport)
