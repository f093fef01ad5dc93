"""How much of its device a worker holds: told by its engines, in heartbeats, and summed by `/health`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from bus.settings import BusSettings
from tests.support import fleets
from tests.support.doors import accepted, until_state
from tests.support.fleets import Stack
from tests.support.programs import bus_flags

LOADED, PER_JOB = 7_516_192_768, 1_048_576
#: Installed like anybody's engine: a distribution with an entry point.
MODULE = f"""
from dataclasses import replace

from gpuworker.engines.tone import Tone


class Weighed(Tone):
    held = None

    def capabilities(self):
        return replace(super().capabilities(), name="weighed")

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
    place = tmp_path_factory.mktemp("site")
    (place / "weighed.py").write_text(MODULE)
    told = place / "weighed-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: weighed\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[antiphon.engines]\nweighed = weighed:Weighed\n")
    return place


@contextmanager
def worker(settings: BusSettings, installed: Path, name: str, device: str) -> Iterator[Path]:
    """A worker with that engine, on a device that is called so; its log."""
    log = installed / f"{name}.log"
    flags = ["--id", name, "--models", "weighed", "--slots", "1", "--device", device]
    paths = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli.main", "worker", *bus_flags(settings), *flags],
            env={**os.environ, "PYTHONPATH": paths},
            stderr=out,
        )
        try:
            yield log
        finally:
            process.terminate()
            process.wait(20)


async def until_told(http: aiohttp.ClientSession, num_bytes: int | None, within_s: float = 20.0) -> None:
    told: object = "nothing"
    try:
        async with asyncio.timeout(within_s):
            while told != num_bytes:
                async with http.get("/health") as answer:
                    told = (await answer.json())["gpu_memory_used"]
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"/health says {told}, not {num_bytes}") from None


async def test_what_engine_hosts_hold_of_their_devices_is_summed_and_follows_what_they_do(
    stack: Stack, http: aiohttp.ClientSession, installed: Path
) -> None:
    await until_told(http, 0)  # of the one worker there is, on a CPU
    with worker(stack.settings, installed, "g1", "cuda:0") as log:
        await until_told(http, LOADED)
        with worker(stack.settings, installed, "g2", "cuda:1"):
            await until_told(http, 2 * LOADED)
            job = await accepted(http, {"model": "weighed", "input": "x", "params": {"seconds": 0.1}})
            await until_state(http, job, "done")
            await until_told(http, 2 * LOADED + PER_JOB)
        await until_told_one_of(http, {LOADED, LOADED + PER_JOB})
    assert "engine.memory_unknown" not in log.read_text()
    await until_told(http, 0)


async def test_an_engine_that_cannot_tell_any_more_is_asked_no_more_and_goes_on(
    stack: Stack, http: aiohttp.ClientSession, installed: Path
) -> None:
    with worker(stack.settings, installed, "g3", "cuda:0") as log:
        await until_told(http, LOADED)
        for told in (LOADED + PER_JOB, None, None):
            job = await accepted(http, {"model": "weighed", "input": "x", "params": {"seconds": 0.1}})
            await until_state(http, job, "done")
            await until_told(http, told)
    assert log.read_text().count('"engine.memory_unknown"') == 1


async def test_an_engine_on_a_cpu_tells_of_no_device(
    stack: Stack, http: aiohttp.ClientSession, installed: Path
) -> None:
    with worker(stack.settings, installed, "c1", "cpu"):
        await until_offered(http, "weighed")
        job = await accepted(http, {"model": "weighed", "input": "x", "params": {"seconds": 0.1}})
        await until_state(http, job, "done", within_s=20)
        await until_told(http, 0)


async def until_offered(http: aiohttp.ClientSession, model: str) -> None:
    async with asyncio.timeout(20):
        while model not in {each["id"] for each in (await (await http.get("/v1/models")).json())["data"]}:
            await asyncio.sleep(0.05)


async def until_told_one_of(http: aiohttp.ClientSession, wanted: set[int]) -> None:
    async with asyncio.timeout(20):
        while (await (await http.get("/health")).json())["gpu_memory_used"] not in wanted:
            await asyncio.sleep(0.05)
