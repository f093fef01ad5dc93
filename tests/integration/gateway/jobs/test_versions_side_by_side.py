"""Two versions of an engine in workers of their own, two gateways, and a route that is changed under load. ADR 22."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from bus.jobs.client import Bus
from bus.routes.route import Target
from bus.routes.store import RouteStore
from bus.settings import BusSettings
from tests.support import engine_package
from tests.support.programs import Fleet

#: Seconds each: workers in interpreters of their own take two to start.
pytestmark = pytest.mark.slow

#: The second version plays the signal of `tone` upside down.
BELL = """
from dataclasses import replace

from gpuworker.engine import Block
from gpuworker.engines.tone import Tone


class Bell(Tone):
    def capabilities(self):
        return replace(super().capabilities(), name="bell", version="{version}")

    def generate(self, jobs):
        for index, event in super().generate(jobs):
            yield index, replace(event, pcm={sign} * event.pcm) if isinstance(event, Block) else event
"""


class Answer(NamedTuple):
    """One response with audio."""

    asked_at: float
    cache: str | None
    version: str
    body: bytes


class Side(NamedTuple):
    """Both gateways and the routes."""

    store: RouteStore
    urls: list[str]


def to(**weights: float) -> list[Target]:
    return [Target(model="bell", version=version, weight=weight) for version, weight in weights.items()]


@asynccontextmanager
async def side_by_side(bus: Bus, settings: BusSettings, fleet: Fleet, folder: Path) -> AsyncIterator[Side]:
    async with AsyncExitStack() as parts:
        for version, sign in (("v1", 1), ("v2", -1)):
            own = folder / version
            engine_package.install(own, "bell", "Bell", BELL.format(version=version, sign=sign))
            parts.enter_context(engine_package.worker(settings, own, "bell", version, "--slots", "16"))
        urls = [(await asyncio.to_thread(fleet.gateway))[1] for _ in range(2)]
        side = Side(RouteStore(bus, "test"), urls)
        async with aiohttp.ClientSession() as http, asyncio.timeout(30):
            for url, version in itertools.product(urls, ("v1", "v2")):
                while await status(http, url, version) != 200:
                    await asyncio.sleep(0.1)
        yield side


async def status(http: aiohttp.ClientSession, url: str, version: str) -> int:
    body = {"model": "bell", "input": "known?", "version": version, "params": {"seconds": 0.05}}
    async with http.post(f"{url}/v1/audio/speech", json=body) as answer:
        await answer.read()
        return answer.status


async def play(http: aiohttp.ClientSession, url: str, text: str, **params: float) -> Answer:
    body = {"model": "bell", "input": text, "response_format": "pcm", "params": {"seconds": 0.2, **params}}
    asked_at = time.monotonic()
    async with http.post(f"{url}/v1/audio/speech", json=body) as answer:
        data = await answer.read()
        assert answer.status == 200, data
        job, cache = answer.headers["Antiphon-Job"], answer.headers.get("Antiphon-Cache")
    async with http.get(f"{url}/v1/jobs/{job}") as answer:
        return Answer(asked_at, cache, str((await answer.json())["version"]), data)


async def until_applied(http: aiohttp.ClientSession, side: Side, version: str) -> None:
    async with asyncio.timeout(20):
        for url in side.urls:
            while (await play(http, url, "applied?")).version != version:
                await asyncio.sleep(0.01)


async def test_versions_share_no_run_and_no_result(
    bus: Bus, bus_settings: BusSettings, fleet: Fleet, tmp_path: Path
) -> None:
    async with side_by_side(bus, bus_settings, fleet, tmp_path) as side, aiohttp.ClientSession() as http:
        first: dict[str, Answer] = {}
        for version, cache in (("v1", "miss"), ("v2", "miss"), ("v1", "hit"), ("v2", "hit")):
            await side.store.set("bell", to(**{version: 1}))
            await until_applied(http, side, version)
            answer = await play(http, side.urls[0], "the same")
            assert (answer.version, answer.cache) == (version, cache)
            assert first.setdefault(version, answer).body == answer.body
        assert first["v1"].body != first["v2"].body
        await side.store.set("bell", to(v1=1, v2=1))
        async with asyncio.timeout(20):
            while len({(await play(http, url, "applied?")).version for url in side.urls for _ in range(8)}) < 2:
                await asyncio.sleep(0.01)
        at_once = [play(http, side.urls[number % 2], "at once", compute_ms=100) for number in range(40)]
        found = await asyncio.gather(*at_once)
        assert {answer.version for answer in found} == {"v1", "v2"}
        for answer in found:
            assert answer.body == first[answer.version].body
        assert sum(answer.cache == "miss" for answer in found) == 2, "one run of each version"


async def test_a_change_reaches_both_gateways_under_load_and_no_request_fails(
    bus: Bus, bus_settings: BusSettings, fleet: Fleet, tmp_path: Path
) -> None:
    async with side_by_side(bus, bus_settings, fleet, tmp_path) as side, aiohttp.ClientSession() as http:
        await side.store.set("bell", to(v1=1))
        await until_applied(http, side, "v1")
        answers: dict[str, list[Answer]] = {url: [] for url in side.urls}
        ended, numbers = asyncio.Event(), itertools.count()

        async def load(url: str) -> None:
            while not ended.is_set():
                answers[url].append(await play(http, url, f"request {next(numbers)}"))

        late_s: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            for url in side.urls * 8:
                tasks.create_task(load(url))
            for number in range(6):
                await asyncio.sleep(0.5)
                new, changed_at = ("v2", "v1")[number % 2], time.monotonic()
                await side.store.set("bell", to(**{new: 1}))
                await asyncio.sleep(1.5)
                for url in side.urls:
                    asked = [each for each in answers[url] if each.asked_at > changed_at]
                    late_s.append(max((each.asked_at - changed_at for each in asked if each.version != new), default=0))
                    assert any(each.version == new for each in asked), (url, new)
            ended.set()
        print(
            f"{sum(map(len, answers.values()))} requests, 0 failed; old version until {max(late_s):.3f} s after a change"
        )
        assert max(late_s) < 1.0, late_s
