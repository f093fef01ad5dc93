"""`/v1/blobs` at one gateway, which has less memory than the largest blob."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import ClientError, ClientSession

from bus.blobs.blob import CHUNK_BYTES
from bus.blobs.retention import BlobRetention
from bus.blobs.store import BlobStore
from bus.blobs.uploaded import UploadedVoices
from bus.jobs.client import Bus, open_bus
from tests.support.blobs import becomes, key_of, put
from tests.support.fleets import Stack, small_bus, stack_of
from tests.support.web import ready

MAX_BYTES = 3 << 20


@pytest.fixture(scope="module")
def stack(nats_url: str) -> Iterator[Stack]:
    flags = ("--max-blob-bytes", str(MAX_BYTES), "--buffer-bytes", str(MAX_BYTES // 2))
    with stack_of(small_bus(nats_url, blobs_max_bytes=16 << 20), gateway_flags=flags) as made:
        yield made


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[ClientSession]:
    async with ClientSession(stack.url) as session:
        await ready(session, "")
        yield session


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test") as opened:
        yield opened


async def test_a_blob_is_put_read_and_removed(http: ClientSession) -> None:
    data = secrets.token_bytes(CHUNK_BYTES + 5)
    digest = hashlib.sha256(data).hexdigest()
    status, blob = await put(http, data)
    assert (status, blob["digest"], blob["bytes"]) == (201, digest, len(data))
    status, again = await put(http, data)
    assert (status, again["digest"]) == (200, digest)
    assert again["expires_at"] >= blob["expires_at"]
    async with http.get(f"/v1/blobs/{digest}") as answer:
        assert await answer.read() == data
        assert answer.headers["ETag"] == f'"{digest}"'
    async with http.head(f"/v1/blobs/{digest}") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(data)))
    async with http.delete(f"/v1/blobs/{digest}") as answer:
        assert answer.status == 204
    for method in ("GET", "HEAD", "DELETE"):
        async with http.request(method, f"/v1/blobs/{digest}") as answer:
            assert answer.status == 404


async def test_a_body_without_a_length_is_stored_as_it_comes(http: ClientSession) -> None:
    pieces = [secrets.token_bytes(70_000) for _ in range(30)]

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    status, blob = await put(http, body())
    assert (status, blob["digest"]) == (201, hashlib.sha256(b"".join(pieces)).hexdigest())


async def test_what_cannot_be_stored_is_refused_by_bytes_limit_and_whose(http: ClientSession, bus: Bus) -> None:
    before = await BlobStore(bus).num_chunks()
    status, error = await put(http, b"")
    assert (status, error["code"]) == (422, "invalid")
    assert "0 bytes" in error["detail"]

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    for data in (bytes(MAX_BYTES + 1), endless()):
        status, error = await put(http, data)
        assert (status, error["code"]) == (413, "too_large")
        assert "tenant public" in error["detail"]
        assert str(MAX_BYTES) in error["detail"]
    await becomes(BlobStore(bus).num_chunks, before)


async def test_a_tenant_at_its_share_is_refused_and_no_other(http: ClientSession, bus: Bus) -> None:
    as_greedy, as_modest = [{"headers": await key_of(http, bus, name)} for name in ("greedy", "modest")]
    stored = []
    for _ in range(8):
        status, answer = await put(http, secrets.token_bytes(MAX_BYTES), **as_greedy)
        if status != 201:
            break
        stored.append(answer["digest"])
    assert (status, answer["code"], answer["limit"]) == (429, "too_many", "blobs_max_bytes")
    assert "tenant greedy" in answer["detail"]
    assert len(stored) >= 3
    status, _ = await put(http, b"small", **as_modest)
    assert status == 201
    for digest in stored:
        async with http.delete(f"/v1/blobs/{digest}", **as_greedy) as answer_:
            assert answer_.status == 204


async def test_a_client_that_leaves_half_way_leaves_nothing(http: ClientSession, bus: Bus, stack: Stack) -> None:
    store = BlobStore(bus)
    before = await store.num_chunks()
    begun, left = asyncio.Event(), asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield bytes(5 * CHUNK_BYTES)
        begun.set()
        await left.wait()

    async with ClientSession(stack.url) as leaving:
        request = asyncio.create_task(put(leaving, half()))
        await begun.wait()
        async with asyncio.timeout(10):
            while await store.num_chunks() == before:
                await asyncio.sleep(0.01)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        left.set()  # else the generator is one that the collector ends
    await becomes(store.num_chunks, before)


async def test_a_gateway_that_is_killed_half_way_leaves_chunks_that_another_one_purges(
    stack: Stack, bus: Bus, http: ClientSession
) -> None:
    store = BlobStore(bus)
    before = await store.num_chunks()
    gateway, url = stack.fleet.gateway()
    sent = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield bytes(5 * CHUNK_BYTES)
        await sent.wait()
        yield b""

    async with ClientSession(url) as cut:
        request = asyncio.create_task(put(cut, half()))
        async with asyncio.timeout(20):
            while len(await store.num_chunks()) == len(before):
                await asyncio.sleep(0.01)
        gateway.kill()
        sent.set()
        with pytest.raises(ClientError):
            await request
    assert len(await store.num_chunks()) == len(before) + 1
    await BlobRetention(bus, UploadedVoices(bus), orphan_s=0.0).look()
    assert await store.num_chunks() == before
    assert (await put(http, bytes(5 * CHUNK_BYTES)))[0] == 201
