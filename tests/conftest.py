"""Fixtures for every test: one nats-server for the run, a namespace on it for each test."""

import gc
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import ClientSession
from hypothesis import settings

from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from tests.support.nats import fresh_root, nats_server
from tests.support.programs import Fleet, fleet_of
from tests.support.skips import pytest_make_collect_report, pytest_runtest_makereport

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]

# A timing decides no test: on a busy machine one example takes what ten take elsewhere.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")

# What is imported and collected stays to the end, a quarter of a million objects: the collector need not walk through
# them while they are made, nor ever after.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """The URL of the run's nats-server."""
    with nats_server() as url:
        yield url


@pytest.fixture
def root() -> str:
    """This test's namespace on the shared server, instead of clean-up."""
    return fresh_root()


@pytest.fixture
def ack_wait_s() -> float:
    """Override by parametrising: a job may then be *given back*, not merely time out, or the other way round."""
    return 1.0


@pytest.fixture
def bus_settings(nats_url: str, root: str, ack_wait_s: float) -> BusSettings:
    """Small streams: JetStream reserves each stream's bytes, and every test makes its own."""
    return BusSettings(
        nats=nats_url,
        root=root,
        ack_wait_s=ack_wait_s,
        jobs_max_bytes=64 << 20,
        replies_max_bytes=256 << 20,
        blobs_max_bytes=64 << 20,
    )


@pytest.fixture
async def bus(bus_settings: BusSettings) -> AsyncIterator[Bus]:
    """A connection of this test's own, its streams declared."""
    async with open_bus(bus_settings, "test") as opened:
        yield opened


@pytest.fixture
def fleet(bus_settings: BusSettings) -> Iterator[Fleet]:
    """Starts this test's workers and gateways as processes, and ends them with it."""
    with fleet_of(bus_settings) as fleet:
        yield fleet


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session
