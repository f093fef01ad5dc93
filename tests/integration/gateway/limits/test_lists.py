"""Lists read many logs: tenants take turns at that."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import msgspec
import pytest

from bus.settings import BusSettings
from gateway.api import jobs as jobs_api
from gateway.compose import _NUM_READS
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job
from tests.support.waiting import eventually

NUM_JOBS = 8
NUM_LISTS = 20


class Gated:
    """Rows of lists that stay unread until they are let go, first come first served."""

    def __init__(self) -> None:
        self.num_inside = self.most_inside = self.num_read = 0
        self.may = asyncio.Semaphore(0)

    async def listed(self, *_: Any) -> msgspec.Raw:
        self.num_inside += 1
        self.most_inside = max(self.most_inside, self.num_inside)
        await self.may.acquire()
        self.num_inside -= 1
        self.num_read += 1
        return msgspec.Raw(b"{}")

    def let_go(self, num: int) -> None:
        for _ in range(num):
            self.may.release()


async def test_lists_of_one_caller_leave_the_next_read_to_another(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = Gated()
    async with gateway_here(bus_settings) as (gateway, http), AsyncExitStack() as stack:
        for _ in range(NUM_JOBS):
            await gateway.jobs.accept(tone_job(run_on=True))
        monkeypatch.setattr(jobs_api, "_listed", gated.listed)
        sent = []
        for address, num in (("127.0.0.1", NUM_LISTS), ("127.0.0.2", 1)):
            connector = aiohttp.TCPConnector(limit=0, local_addr=(address, 0))
            base = http._base_url
            session = await stack.enter_async_context(aiohttp.ClientSession(base, connector=connector))
            sent += [asyncio.create_task(read(session)) for _ in range(num)]
            if num == NUM_LISTS:
                await eventually(lambda: gated.num_inside >= _NUM_READS)
                gated.let_go(NUM_JOBS)
                await eventually(lambda: gated.num_read == NUM_JOBS and gated.num_inside == _NUM_READS)
        victim = sent[-1]
        # Each step ends one read. The other caller's first turn is for its search, and one more for each of its rows.
        while not victim.done() and gated.num_read < NUM_JOBS * NUM_LISTS:
            before = gated.num_read
            gated.let_go(1)
            await eventually(lambda before=before: victim.done() or gated.num_read > before)
            await asyncio.sleep(0.01)
        assert gated.num_read < NUM_JOBS * NUM_LISTS / 2, "it did not wait for all lists of the first"
        assert gated.most_inside == _NUM_READS
        gated.let_go(NUM_JOBS * NUM_LISTS)
        assert await asyncio.gather(*sent) == [NUM_JOBS] * (NUM_LISTS + 1)


async def read(session: aiohttp.ClientSession) -> int:
    """Rows of the caller's list."""
    async with session.get(f"/v1/jobs?limit={NUM_JOBS}") as answer:
        assert answer.status == 200, await answer.text()
        return len((await answer.json())["jobs"])
