"""Gateways in this process, workers of several versions of `tone`, and routes between them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec

from bus.fleet.messages import ModelCard
from bus.fleet.presence import Presence
from bus.jobs.client import Bus
from bus.routes.route import Target
from bus.routes.store import RouteStore
from bus.settings import BusSettings
from gateway.compose import Services
from tests.support.doors import gateway_here, tone
from tests.support.stub_worker import CARD, beat
from tests.support.waiting import eventually


def card(version: str, **more: Any) -> ModelCard:
    return msgspec.structs.replace(CARD, version=version, **more)


@asynccontextmanager
async def worker(bus: Bus, version: str, **more: Any) -> AsyncIterator[None]:
    """A worker that offers one version of `tone` and runs no job: what is accepted stays queued."""
    name = f"w-{version}"
    presence = Presence(bus, name, "b1", lambda: beat(name, "b1", []), lambda _: None)
    presence.cards = [card(version, **more)]
    running = asyncio.ensure_future(presence.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


class Gateway(NamedTuple):
    services: Services
    http: aiohttp.ClientSession


class Stack(NamedTuple):
    store: RouteStore
    gateways: list[Gateway]


def targets(model: str = "tone", **weights: float) -> list[Target]:
    return [Target(model=model, version=version, weight=weight) for version, weight in weights.items()]


@asynccontextmanager
async def stack(bus: Bus, settings: BusSettings, *versions: str, num_gateways: int = 2) -> AsyncIterator[Stack]:
    """Gateways in this process, each with a connection of its own, that know a worker of each version."""
    async with AsyncExitStack() as parts:
        made = [Gateway(*await parts.enter_async_context(gateway_here(settings))) for _ in range(num_gateways)]
        for version in versions:
            await parts.enter_async_context(worker(bus, version))
        known = [each.services.fleet.known_versions for each in made]
        await eventually(lambda: all({*versions} <= {*each.get("tone", {})} for each in known))
        yield Stack(RouteStore(bus, "test"), made)


async def applied(stack: Stack, name: str = "tone") -> None:
    """Until every gateway has the newest route."""
    wanted = (await stack.store.history(name))[-1]
    expected = wanted if wanted.targets else None
    await eventually(lambda: all(each.services.routes.entries.get(name) == expected for each in stack.gateways))


async def version_of(http: aiohttp.ClientSession, model: str = "tone", *, version: str = "", **headers: str) -> str:
    """The version that one new job gets; it names no id."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post("/v1/jobs", json=tone(model=model, version=version), headers=named) as answer:
        assert answer.status == 202, await answer.text()
        job = (await answer.json())["id"]
    async with http.get(f"/v1/jobs/{job}") as answer:
        shown = await answer.json()
        assert shown["model"] == "tone"
        return str(shown["version"])


async def refused(http: aiohttp.ClientSession, status: int, **body: Any) -> str:
    async with http.post("/v1/jobs", json=tone(**body)) as answer:
        assert answer.status == status, await answer.text()
        return str((await answer.json())["detail"])
