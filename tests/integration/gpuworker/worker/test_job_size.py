"""A job makes no more audio than was known when it was accepted; what makes more ends alone."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from bus import wire
from bus.jobs.client import Bus, open_bus
from tests.support import fleets
from tests.support.fleets import Stack
from tests.support.jobs import JobListener, listen, tone_job
from tests.support.tone import tone_pcm

#: A quarter of this store is 87 s of `tone`.
STORE_BYTES = 16 << 20

stack = fleets.stack("tone", 4, "--max-fails", "0", replies_max_bytes=STORE_BYTES)
http = fleets.http()


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test", declare=False) as bus:
        yield bus


async def test_a_job_that_outgrows_its_bound_fails_and_no_other(bus: Bus) -> None:
    slow = {"block_ms": 20, "compute_ms": 20, "device": "own"}
    async with JobListener(bus, tone_job(seconds=1.5, **slow)) as beside:
        received = await listen(bus, tone_job(seconds=20, block_ms=20, max_bytes=10_000))
        assert received.end.kind == "failed"
        failed = wire.decode(wire.Failed, received.end.payload)
        assert failed.code == "too_large"
        assert "tone" in failed.message
        assert "10,000 bytes" in failed.message
        assert received.pcm == tone_pcm(20)[: len(received.pcm)]
        assert 0 < len(received.pcm) <= 10_000
        assert (await beside.until_kind("done")).kind == "done"
        assert beside.received.pcm == tone_pcm(1.5)


async def test_a_job_of_no_gateway_has_the_bound_of_its_model(bus: Bus) -> None:
    assert (await listen(bus, tone_job(seconds=2))).end.kind == "done"
    received = await listen(bus, tone_job(seconds=36_000))
    failed = wire.decode(wire.Failed, received.end.payload)
    assert (failed.code, failed.path) == ("too_large", "params.seconds")
    assert received.pcm == b""


async def test_a_request_for_more_audio_than_a_job_may_make_is_refused(http: ClientSession) -> None:
    for path in ("/v1/jobs", "/v1/audio/speech"):
        body = {"model": "tone", "input": "x", "params": {"seconds": 36_000}}
        async with http.post(path, json=body) as answer:
            assert answer.status == 413
            text = await answer.text()
    body = {"model": "tone", "input": "x", "params": {"seconds": 36_000}}
    async with http.post("/v1/jobs", json=body) as answer:
        problem = await answer.json()
    assert (problem["code"], problem["path"], problem["retryable"]) == ("too_large", "params.seconds", False)
    for part in ("36,000 s", "87 s", "4,194,304 bytes"):
        assert part in problem["detail"]
        assert part in text


async def test_only_the_gateway_writes_the_bound(http: ClientSession, bus: Bus) -> None:
    body = {"model": "tone", "input": "x", "params": {"seconds": 1.0}}
    for field, value in (("max_bytes", 1), ("gateway", "a")):
        async with http.post("/v1/jobs", json=body | {field: value}) as answer:
            assert answer.status == 422
            assert (await answer.json())["path"] == field
    async with http.post("/v1/jobs", json=body) as answer:
        job_id = (await answer.json())["id"]
    found = await bus.logs.birth(bus.subjects.job_key("public", job_id))
    assert found is not None
    assert 48_000 <= found[1].job.max_bytes <= 48_128
