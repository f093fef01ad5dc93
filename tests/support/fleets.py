"""One gateway before one worker, shared by the tests of a module, and a session that asks it.

    stack = fleets.stack("tone", 2)
    http = fleets.http()

are a module's fixtures of these names: a `Stack` for all its tests, and for each of them an aiohttp session whose
requests succeed.
"""

import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, NamedTuple

import pytest
from aiohttp import ClientSession

from bus.settings import BusSettings
from tests.support.nats import fresh_root
from tests.support.programs import Fleet, Program, fleet_of
from tests.support.web import ready

READY_S = 30.0


class Stack(NamedTuple):
    fleet: Fleet
    gateway: Program
    worker: Program
    url: str

    @property
    def settings(self) -> BusSettings:
        return self.fleet.settings


def small_bus(nats_url: str, root: str = "", **settings: Any) -> BusSettings:
    """A namespace of its own, unless one is named. Small streams: JetStream reserves the bytes of each."""
    sizes = {"jobs_max_bytes": 64 << 20, "replies_max_bytes": 256 << 20, "blobs_max_bytes": 64 << 20}
    return BusSettings(**{"nats": nats_url, "root": root or fresh_root(), **sizes, **settings})


@contextmanager
def stack_of(
    settings: BusSettings,
    models: str = "tone",
    slots: int = 4,
    *flags: str,
    gateway_flags: Sequence[str] = (),
    knows_all: bool = False,
) -> Iterator[Stack]:
    """A gateway whose doors are all open, and a worker with these models, slots and flags.

    `knows_all`: wait until the gateway is so old that it says of a model it has not heard of that nobody has it.
    """
    with fleet_of(settings) as fleet:
        worker = fleet.worker("w1", models, slots, *flags, wait=False)
        gateway, _ = fleet.gateway(*gateway_flags, wait=False)
        url = str(gateway.wait_for("gateway.ready")["url"])
        worker.wait_for("worker.ready")
        gateway.wait_for("submit.ready")
        if knows_all:
            _until(f"{url}/v1/voices?model=nobody", 404)
        yield Stack(fleet, gateway, worker, url)


@asynccontextmanager
async def asking(url: str, **options: Any) -> AsyncIterator[ClientSession]:
    """A session for the gateway at `url`, once a request would succeed."""
    async with ClientSession(url, **options) as http:
        await ready(http, "")
        yield http


def stack(
    models: str = "tone",
    slots: int = 4,
    *flags: str,
    gateway_flags: Sequence[str] = (),
    knows_all: bool = False,
    scope: Literal["module", "package"] = "module",
    **settings: Any,
) -> Any:
    """A fixture: `stack_of` these on a small bus with these settings."""

    @pytest.fixture(scope=scope)
    def stack(nats_url: str) -> Iterator[Stack]:
        bus = small_bus(nats_url, **settings)
        with stack_of(bus, models, slots, *flags, gateway_flags=gateway_flags, knows_all=knows_all) as started:
            yield started

    return stack


def http() -> Any:
    """A fixture: a session for the gateway of the fixture `stack`."""

    @pytest.fixture
    async def http(stack: Stack) -> AsyncIterator[ClientSession]:
        async with asking(stack.url) as session:
            yield session

    return http


def _until(url: str, status: int) -> None:
    deadline = time.monotonic() + READY_S
    while (found := _status(url)) != status:
        assert time.monotonic() < deadline, f"{url} answers {found}, not {status}, after {READY_S} s"
        time.sleep(0.1)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=READY_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
