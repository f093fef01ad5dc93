"""The worker's handle of its engine host, with a real host process."""

import asyncio
import os
import signal
from unittest.mock import Mock

import pytest
import uvloop

from bus import wire
from bus.jobs.claim import Claim
from bus.jobs.entry import Position
from bus.subjects import Subjects
from gpuworker.settings import WorkerSettings
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.run_files import RunFiles
from gpuworker.worker.stream import Audio, EngineLost, HandBack, Interruption, Stream


def claim(model: str = "tone", **params: object) -> Claim:
    job = wire.Job(id="j", input="tone", model=model, params=params, tenant="public")
    birth = wire.Birth(job=job, digest="", queue_seq=1, accepted_at=0.0)
    lease = wire.Lease(state=wire.LeaseState.RUNNING, attempt=1)
    return Claim(Subjects("test").job_key("public", "j"), birth, 1, lease, Position())


def opened(host: EngineHost, **params: object) -> Stream:
    return host.open(claim(**params), EntrySize(24_000, 2))


async def until_loaded(host: EngineHost) -> None:
    async with asyncio.timeout(60):
        await host.models.settled.wait()


async def interruption_of(stream: Stream) -> Interruption:
    async with asyncio.timeout(60):
        try:
            while True:
                await stream.next()
        except Interruption as interruption:
            return interruption


def test_a_job_without_a_host_is_handed_back() -> None:
    host = EngineHost(["tone"], WorkerSettings(), Mock(RunFiles, fetches={}, models=set()), lambda: None, lambda: None)
    with pytest.raises(HandBack, match="has no tone"):
        opened(host)


async def use_a_host_before_its_death_is_settled() -> None:
    host = EngineHost(["tone"], WorkerSettings(), Mock(RunFiles, fetches={}, models=set()), lambda: None, lambda: None)
    running = asyncio.ensure_future(host.run())
    await until_loaded(host)
    stream = opened(host, seconds=600, block_ms=20)
    async with asyncio.timeout(60):
        audio = await stream.next()
    assert isinstance(audio, Audio)
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    while host.is_up:
        await asyncio.sleep(0)
    stream.appended(audio)
    host.close(stream)
    with pytest.raises(HandBack):
        opened(host)
    running.cancel()
    await asyncio.wait([running])


def test_a_host_that_has_just_died_takes_no_worker_with_it() -> None:
    """On uvloop, as a worker runs: there a write to a closed transport raises, and asyncio's own only warns."""
    uvloop.run(use_a_host_before_its_death_is_settled())


async def test_a_death_in_a_step_costs_that_job_and_hands_the_others_back() -> None:
    deaths: list[int] = []
    settings = WorkerSettings(allow_faults=True)
    host = EngineHost(
        ["tone"], settings, Mock(RunFiles, fetches={}, models=set()), lambda: None, lambda: deaths.append(1)
    )
    running = asyncio.ensure_future(host.run())
    await until_loaded(host)
    well = opened(host, seconds=600, block_ms=20)
    sick = opened(host, seconds=1, fault={"kind": "exit", "at_block": 1})
    lost, handed_back = await asyncio.gather(interruption_of(sick), interruption_of(well))
    assert isinstance(lost, EngineLost)
    assert lost.host_died
    assert isinstance(handed_back, HandBack)
    assert deaths == [1]
    running.cancel()
    await asyncio.wait([running])


async def test_a_cancelled_host_quits_by_itself() -> None:
    host = EngineHost(["tone"], WorkerSettings(), Mock(RunFiles, fetches={}, models=set()), lambda: None, lambda: None)
    running = asyncio.ensure_future(host.run())
    await until_loaded(host)
    pid = host.pid
    running.cancel()
    await asyncio.wait([running])
    assert host.pid is None
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
