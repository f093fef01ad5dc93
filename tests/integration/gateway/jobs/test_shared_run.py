"""Identical requests inside one gateway process, at moments at which processes cannot be stopped."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from bus import wire
from bus.errors import Cancelled, EngineFailed
from bus.jobs.interest import LEFT, NO_LISTENERS
from bus.jobs.log import Writer
from bus.settings import BusSettings
from gateway.access.caller import SHARED_TENANT
from gateway.compose import Services
from gateway.jobs.cache import derived_id
from gateway.jobs.listening import AudioStream, open_stream
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job
from tests.support.log_writer import finish, take
from tests.support.stub_worker import CARD as STUB

CARD = msgspec.structs.replace(STUB, kind="test", determinism="bitwise")


def equal_job(text: str, **fields: Any) -> wire.Job:
    """Complete, and with the id that all jobs of this text share."""
    job = tone_job(input=text, **fields)
    return msgspec.structs.replace(job, id=derived_id(job, CARD))


@pytest.fixture
async def gateway(bus_settings: BusSettings) -> AsyncIterator[Services]:
    async with gateway_here(bus_settings) as (gateway, _):
        yield gateway


@pytest.fixture
async def other(bus_settings: BusSettings) -> AsyncIterator[Services]:
    """Another gateway: it remembers nothing of the requests that the first one got."""
    async with gateway_here(bus_settings) as (gateway, _):
        yield gateway


async def block(writer: Writer, number: int) -> None:
    await writer.block(bytes([number]) * 20, 10)


async def whole(stream: AudioStream) -> bytes:
    async with aclosing(aiter(stream)) as pieces:
        return b"".join([piece async for piece in pieces])


def queued(gateway: Services) -> Any:
    return gateway.bus.js.info(gateway.bus.subjects.jobs_stream)


@pytest.mark.parametrize("why", [LEFT, NO_LISTENERS])
async def test_a_listener_of_a_run_that_ends_for_want_of_listeners_continues_with_the_next_run(
    gateway: Services, why: str
) -> None:
    job = equal_job("left")
    async with open_stream(gateway.jobs, job) as first, open_stream(gateway.jobs, job) as second:
        assert (first.cache_outcome, second.cache_outcome) == ("miss", "shared")
        writer = await take(gateway.bus, job)
        await block(writer, 1)
        async with asyncio.timeout(30), aclosing(aiter(second)) as pieces:
            received = await anext(pieces)
            await gateway.bus.logs.end(second.key, wire.End.CANCELLED, why)
            rest = asyncio.create_task(anext(pieces))
            while not second.key.job.endswith("-1"):  # until the next run is asked for
                await asyncio.sleep(0.005)
            again = await take(gateway.bus, second.job)
            for number in (1, 2, 3):
                await block(again, number)
            await finish(again)
            received += await rest
            async for piece in pieces:
                received += piece
        assert received == bytes([1]) * 20 + bytes([2]) * 20 + bytes([3]) * 20
        assert second.is_new
        # The request that made the run continues too.
        async with asyncio.timeout(30):
            assert await whole(first) == received
        assert first.key == second.key


async def test_a_request_that_joined_a_run_cancelled_by_its_id_ends_as_cancelled(gateway: Services) -> None:
    job = equal_job("cancelled")
    async with open_stream(gateway.jobs, job), open_stream(gateway.jobs, job) as second:
        await gateway.bus.logs.end(second.key, wire.End.CANCELLED, "cancelled by its owner")
        with pytest.raises(Cancelled, match="by its owner"):
            await whole(second)
    assert await gateway.jobs.cache.next_generation(job, 0) == 1


@pytest.mark.parametrize("is_done", [True, False])
async def test_a_run_that_retention_has_begun_to_purge_answers_no_request(gateway: Services, is_done: bool) -> None:
    job, bus = equal_job("forgotten", run_on=True), gateway.bus
    async with open_stream(gateway.jobs, job) as first:
        writer = await take(gateway.bus, job)
        await block(writer, 1)
        if is_done:
            await finish(writer)
    # As the server does it when a log grows too old: the birth first.
    await bus.js.api(f"STREAM.PURGE.{bus.subjects.replies_stream}", {"filter": first.key.birth})
    async with asyncio.timeout(30), open_stream(gateway.jobs, job) as second:
        assert (second.cache_outcome, second.key.job) == ("miss", f"{job.id}-1")


async def test_a_listener_of_a_log_that_is_purged_meanwhile_continues_with_a_new_run(
    gateway: Services,
) -> None:
    job, bus = equal_job("taken"), gateway.bus
    blocks = [bytes([number]) * 64_000 for number in range(8)]  # more than is read at once

    async def work(job: wire.Job) -> None:
        writer = await take(gateway.bus, job)
        for pcm in blocks:
            await writer.block(pcm, len(pcm) // 2)
        await finish(writer)

    async with open_stream(gateway.jobs, job) as first:
        await work(first.job)
        assert await whole(first) == b"".join(blocks)
    async with asyncio.timeout(30), open_stream(gateway.jobs, job) as second, aclosing(aiter(second)) as pieces:
        assert second.cache_outcome == "hit"
        received = await anext(pieces)
        assert len(received) < 8 * 64_000
        await bus.js.api(f"STREAM.PURGE.{bus.subjects.replies_stream}", {"filter": second.key.everything})
        rest = asyncio.create_task(anext(pieces))
        following = msgspec.structs.replace(job, id=f"{job.id}-1")
        while await bus.logs.birth(bus.subjects.job_key(job.tenant, following.id)) is None:
            if rest.done():  # it was on its way when the log went
                received += rest.result()
                rest = asyncio.create_task(anext(pieces))
            await asyncio.sleep(0.005)
        await work(following)
        received += await rest
        async for piece in pieces:
            received += piece
    assert received == b"".join(blocks)


async def test_requests_that_joined_one_that_is_refused_are_not_left_waiting(
    gateway: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, accept, began = equal_job("refused"), gateway.jobs.accept, asyncio.Event()
    hold = asyncio.Event()

    async def refuse_the_first(*given: Any) -> Any:
        if not began.is_set():
            began.set()
            await hold.wait()
            raise EngineFailed("no")
        return await accept(*given)

    monkeypatch.setattr(gateway.jobs, "accept", refuse_the_first)

    async def one() -> str | None:
        async with open_stream(gateway.jobs, job) as stream:
            return stream.cache_outcome

    first = asyncio.create_task(one())
    await began.wait()
    others = [asyncio.create_task(one()) for _ in range(3)]
    await asyncio.sleep(0)
    hold.set()
    async with asyncio.timeout(30):
        with pytest.raises(EngineFailed):
            await first
        assert "miss" in await asyncio.gather(*others)


async def test_identical_requests_to_two_gateways_leave_one_message_in_the_queue(
    gateway: Services, other: Services
) -> None:
    job = equal_job("queue")
    async with open_stream(gateway.jobs, job) as first, open_stream(other.jobs, job) as second:
        assert (second.cache_outcome, second.key) == ("shared", first.key)
        assert (await queued(gateway))["state"]["messages"] == 1


async def test_a_shared_cache_answers_all_tenants_and_belongs_to_none(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings, shared_cache=True) as (gateway, http):
        ours, theirs = equal_job("shared", tenant="acme"), equal_job("shared", tenant="globex")
        async with open_stream(gateway.jobs, ours) as first, open_stream(gateway.jobs, theirs) as second:
            assert first.key == second.key
            assert first.key.tenant == SHARED_TENANT
            writer = await take(gateway.bus, first.job)
            await block(writer, 5)
            await finish(writer)
            assert await whole(first) == await whole(second) == bytes([5]) * 20
        async with open_stream(gateway.jobs, theirs, own_id=True) as own:
            assert (own.key.tenant, own.cache_outcome) == ("globex", "miss")
        for method in ("GET", "DELETE"):
            async with http.request(method, f"/v1/jobs/{first.key.job}") as answer:
                assert answer.status == 404


async def test_tenants_share_nothing_unless_the_cache_is_shared(gateway: Services) -> None:
    async with (
        open_stream(gateway.jobs, equal_job("own", tenant="acme")) as first,
        open_stream(gateway.jobs, equal_job("own", tenant="globex")) as second,
    ):
        assert first.key.job == second.key.job
        assert (first.cache_outcome, second.cache_outcome) == ("miss", "miss")


async def test_the_newest_of_many_generations_is_found(gateway: Services, other: Services) -> None:
    job = equal_job(uuid.uuid4().hex)
    for generation in range(11):
        assert await gateway.jobs.cache.next_generation(job, -1) == generation
        assert await gateway.jobs.cache.next_generation(job, generation - 1) == generation
        async with open_stream(gateway.jobs, job, fresh=True) as stream:
            assert stream.key.job == (f"{job.id}-{generation}" if generation else job.id)
            await gateway.bus.logs.end(stream.key, wire.End.CANCELLED, "by the test")
    async with open_stream(other.jobs, job) as stream:
        assert stream.key.job == f"{job.id}-11"


def test_an_id_is_shared_only_by_jobs_with_equal_audio() -> None:
    job = tone_job(input="x", seed=3)
    shared = derived_id(job, CARD)
    assert shared.startswith("c")
    assert derived_id(msgspec.structs.replace(job, tenant="other", client=wire.Client(api="x")), CARD) == shared
    for field, value in {
        "input": "y",
        "seed": 4,
        "voice": "v",
        "version": "v2",
        "params": {"a": 1},
        "model": "m",
    }.items():
        assert derived_id(msgspec.structs.replace(job, **{field: value}), CARD) != shared, field
    for determinism in ("tolerance", "none", "surprising"):
        assert derived_id(job, msgspec.structs.replace(CARD, determinism=determinism)) == ""
    assert derived_id(job, msgspec.structs.replace(CARD, determinism="same_build")) == shared
    assert derived_id(msgspec.structs.replace(job, first_audio_deadline_s=1.0), CARD) == ""
