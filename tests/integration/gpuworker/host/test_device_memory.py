"""Device memory that workers hold: reported by engines, carried in heartbeats, summed by `/health`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest

from bus.settings import BusSettings
from tests.support import engine_package, fleets
from tests.support.doors import accepted, until_state
from tests.support.fleets import Stack

pytestmark = pytest.mark.slow

LOADED, PER_JOB = 7_516_192_768, 1_048_576
ENGINE = f"""
from dataclasses import replace

from gpuworker.engines.tone import Tone


class Measured(Tone):
    held = None

    def capabilities(self):
        return replace(super().capabilities(), name="measured")

    def load(self, device, policy):
        super().load(device, policy)
        self.held = {LOADED} if device.startswith("cuda") else None

    def generate(self, jobs):
        if self.held is not None:
            self.held += {PER_JOB}
        yield from super().generate(jobs)

    def device_bytes(self):
        if self.held == {LOADED + 2 * PER_JOB}:
            raise RuntimeError("the driver is gone")
        return self.held
"""
stack = fleets.stack("tone", 1)


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    async with fleets.asking(stack.url) as http:
        yield http


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    engine_package.install(folder, "measured", "Measured", ENGINE)
    return folder


def worker(settings: BusSettings, installed: Path, name: str, device: str) -> AbstractContextManager[Path]:
    """A worker that serves the engine on a device of that name; yields its log."""
    return engine_package.worker(settings, installed, "measured", name, "--device", device)


async def until_reported(http: aiohttp.ClientSession, *expected: int | None) -> None:
    """Wait until `/health` shows one of the `expected` numbers of bytes."""
    shown: object = "nothing"
    try:
        async with asyncio.timeout(20):
            while shown not in expected:
                async with http.get("/health") as answer:
                    shown = (await answer.json())["gpu_memory_used"]
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"/health shows {shown}, not {expected}") from None


async def test_memory_of_engine_hosts_is_summed_and_follows_their_jobs(
    stack: Stack, http: aiohttp.ClientSession, installed: Path
) -> None:
    await until_reported(http, 0)  # the only worker is on a CPU
    with worker(stack.settings, installed, "g1", "cuda:0") as log:
        await until_reported(http, LOADED)
        with worker(stack.settings, installed, "g2", "cuda:1"):
            await until_reported(http, 2 * LOADED)
            job = await accepted(http, {"model": "measured", "input": "x", "params": {"seconds": 0.1}})
            await until_state(http, job, "done")
            await until_reported(http, 2 * LOADED + PER_JOB)
        await until_reported(http, LOADED, LOADED + PER_JOB)
    assert "engine.memory_unknown" not in log.read_text()
    await until_reported(http, 0)


async def test_an_engine_that_cannot_report_any_more_is_not_read_again_and_goes_on(
    stack: Stack, http: aiohttp.ClientSession, installed: Path
) -> None:
    with worker(stack.settings, installed, "g3", "cuda:0") as log:
        await until_reported(http, LOADED)
        for reported in (LOADED + PER_JOB, None, None):
            job = await accepted(http, {"model": "measured", "input": "x", "params": {"seconds": 0.1}})
            await until_state(http, job, "done")
            await until_reported(http, reported)
    assert log.read_text().count('"engine.memory_unknown"') == 1


async def test_an_engine_on_a_cpu_reports_no_device(stack: Stack, http: aiohttp.ClientSession, installed: Path) -> None:
    with worker(stack.settings, installed, "c1", "cpu"):
        await until_offered(http, "measured")
        job = await accepted(http, {"model": "measured", "input": "x", "params": {"seconds": 0.1}})
        await until_state(http, job, "done", within_s=20)
        await until_reported(http, 0)


async def until_offered(http: aiohttp.ClientSession, model: str) -> None:
    async with asyncio.timeout(20):
        while model not in {each["id"] for each in (await (await http.get("/v1/models")).json())["data"]}:
            await asyncio.sleep(0.05)
