"""A small store, and jobs of the largest size that it admits, many times over, beside a tenant that wants little."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
from aiohttp import ClientSession

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support.programs import Fleet, fleet_of
from tests.support.tone import tone_pcm
from tests.support.web import ready

STORE_BYTES = 64 << 20
#: Of `tone`: 24 kHz mono, two bytes a sample. A job may take a quarter of the store.
LARGEST_S = STORE_BYTES // 4 // 48_000 - 1
#: Resident memory of the gateway: what it needs at rest, and its budget for buffers.
GATEWAY_BYTES = (256 << 20) + (150 << 20)
ENDED = {"done", "failed", "cancelled", "expired"}


@pytest.fixture
def bus_settings(nats_url: str, root: str) -> BusSettings:
    return BusSettings(nats=nats_url, root=root, jobs_max_bytes=8 << 20, replies_max_bytes=STORE_BYTES)


@pytest.fixture
def fleet(bus_settings: BusSettings) -> Iterator[Fleet]:
    with fleet_of(bus_settings) as fleet:
        yield fleet


class Tenant:
    """Sends requests with its own key and counts the statuses of all answers."""

    def __init__(self, http: ClientSession, url: str, key: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "Cache-Control": "no-store"}
        self.statuses: Counter[int] = Counter()
        #: Bytes of audio of its jobs that are done.
        self.made = 0
        self.ends: Counter[str] = Counter()

    async def speak(self, number: int) -> bytes:
        body = {"model": "tone", "input": f"n{number}", "response_format": "pcm", "params": {"seconds": 1.0}}
        async with self._http.post(f"{self._url}/v1/audio/speech", json=body, headers=self._headers) as response:
            self.statuses[response.status] += 1
            return await response.read()

    async def fill(self, number: int) -> None:
        """One job of the largest size, to its end; every fifth is cancelled while it runs."""
        params = {"seconds": LARGEST_S, "device": "own"}
        body = {"model": "tone", "input": f"big {number}", "params": params, "run_on": True}
        async with self._http.post(f"{self._url}/v1/jobs", json=body, headers=self._headers) as response:
            self.statuses[response.status] += 1
            if response.status != 202:
                assert response.status in {429, 507}, await response.text()
                assert "bytes" in await response.text()
                await asyncio.sleep(0.2)
                return
            job = (await response.json())["id"]
        state = "queued"
        while state not in ENDED:
            if number % 5 == 0 and state == "running":
                async with self._http.delete(f"{self._url}/v1/jobs/{job}", headers=self._headers) as response:
                    self.statuses[response.status] += 1
            await asyncio.sleep(0.05)
            async with self._http.get(f"{self._url}/v1/jobs/{job}", headers=self._headers) as response:
                self.statuses[response.status] += 1
                state = (await response.json())["state"]
        self.ends[state] += 1
        if state == "done":
            self.made += LARGEST_S * 48_000


@pytest.mark.parametrize("times", [pytest.param(3, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.soak)])
async def test_jobs_of_many_stores_harm_no_other_tenant_and_no_process(
    fleet: Fleet, bus_settings: BusSettings, http: ClientSession, times: int
) -> None:
    gateway, url = fleet.gateway()
    worker = fleet.worker("w1", "tone", 8)
    async with open_bus(bus_settings, "test", declare=False) as bus:
        greedy = Tenant(http, url, (await Keys(bus).create("greedy", Limits()))[1])
        modest = Tenant(http, url, (await Keys(bus).create("modest", Limits()))[1])
    await ready(http, url)
    until, peak = times * STORE_BYTES, 0
    process = psutil.Process(gateway.pid)

    async def flood(first: int) -> None:
        number = first
        while greedy.made < until:
            await greedy.fill(number)
            number += 4

    async with asyncio.timeout(60 * times):
        floods = [asyncio.create_task(flood(first)) for first in range(4)]
        number = 0
        while not all(task.done() for task in floods):
            assert await modest.speak(number) == tone_pcm(1.0), modest.statuses
            number += 1
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.1)
        await asyncio.gather(*floods)
    print(f"{greedy.ends}, {greedy.statuses}; modest {modest.statuses}; gateway at most {peak >> 20} MiB")
    assert set(modest.statuses) == {200}
    assert set(greedy.ends) <= {"done", "cancelled"}
    assert 500 not in greedy.statuses
    assert peak < GATEWAY_BYTES
    assert gateway.process.poll() is None
    assert worker.process.poll() is None
    assert gateway.events("http.failed") == []
