"""Answers that are collected before they are sent: all of them together fit into the memory for clients."""

import contextlib
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.settings import BusSettings
from gateway.compose import Services
from tests.support.jobs import tone_job
from tests.support.log_writer import finish, take
from tests.support.programs import Fleet
from tests.support.slow import SlowClient, SlowServer, slow_gateway, write_noise
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

MIB = 1 << 20
CAPACITY = 16 * MIB
#: A piece that was in memory when it turned out not to fit, of each client.
PIECE = 64 << 10
SECONDS = 30  # 1.4 MB of PCM


@contextlib.asynccontextmanager
async def gateway_before_tone(settings: BusSettings, fleet: Fleet) -> AsyncIterator[tuple[Services, SlowServer]]:
    fleet.worker("w1", "tone", 8)
    async with slow_gateway(settings, buffer_bytes=CAPACITY) as (gateway, server):
        await eventually(lambda: "tone" in gateway.fleet.known_models, 30)
        yield gateway, server


def speech(text: str, codec: str) -> str:
    fields: dict[str, Any] = {"model": "tone", "input": text, "response_format": codec, "stream": False}
    return json.dumps(fields | {"params": {"seconds": SECONDS, "block_ms": 1000}})


def batch(num_items: int) -> str:
    items = [{"input": str(number)} for number in range(num_items)]
    return json.dumps({"model": "tone", "items": items, "params": {"seconds": SECONDS, "block_ms": 1000}})


async def body_of(client: SlowClient) -> tuple[bytes, bytes]:
    """The head and the body of a response with a length."""
    while b"\r\n\r\n" not in client.data:
        assert await client.read(1 << 16)
    head, _, body = client.data.partition(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
    while len(body) < length:
        piece = await client.read(1 << 20)
        assert piece
        body += piece
    return head, body


@pytest.mark.parametrize("codec", ["pcm", "wav", "flac"])
async def test_whole_answers_that_nobody_reads_fit_into_the_memory_and_another_client_gets_its_own(
    bus_settings: BusSettings, fleet: Fleet, codec: str
) -> None:
    num_clients = 16
    async with gateway_before_tone(bus_settings, fleet) as (gateway, server), contextlib.AsyncExitStack() as stack:
        for number in range(num_clients):
            request = server.requested("POST /v1/audio/speech", speech(f"flood {number}", codec))
            client = await stack.enter_async_context(request)
            while b"\r\n\r\n" not in client.data:
                assert await client.read(256)  # it is as full as it gets: the response has begun
            assert client.data.startswith(b"HTTP/1.1 200 ")
            assert gateway.buffers.total_bytes < CAPACITY + (number + 1) * PIECE
        assert gateway.buffers.total_bytes > CAPACITY // 2, "the memory was used"
        async with server.requested("POST /v1/audio/speech", speech("one", "pcm"), "127.0.0.2", MIB) as other:
            _, body = await body_of(other)
        assert len(body) == SECONDS * 48_000
    await eventually(lambda: not gateway.buffers.total_bytes)


async def test_an_answer_that_does_not_fit_is_streamed_and_complete(bus_settings: BusSettings, fleet: Fleet) -> None:
    async with gateway_before_tone(bus_settings, fleet) as (gateway, server):
        with gateway.buffers.hold("address-127.0.0.1") as buffer:
            while buffer.try_grow(PIECE):
                pass
            async with server.requested("POST /v1/audio/speech", speech("one", "pcm"), window_bytes=MIB) as client:
                while not client.data.endswith(b"\r\n0\r\n\r\n"):
                    assert await client.read(1 << 20)
    head, _, chunks = client.data.partition(b"\r\n\r\n")
    assert (b"Content-Length" in head, b"Transfer-Encoding: chunked" in head) == (False, True)
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        body += rest[: int(size, 16)]
        chunks = rest[int(size, 16) + 2 :]
    assert body == tone_pcm(SECONDS)


async def test_items_of_batches_that_nobody_reads_fit_into_the_memory(bus_settings: BusSettings, fleet: Fleet) -> None:
    async with gateway_before_tone(bus_settings, fleet) as (gateway, server), contextlib.AsyncExitStack() as stack:
        gateway.buffers._wait_s = 0.1
        clients = []
        for _ in range(3):
            request = server.requested("POST /v1/audio/speech/batch\nCache-Control: no-store", batch(12))
            clients.append(await stack.enter_async_context(request))
        for client in clients:
            while b"\r\n\r\n" not in client.data:
                assert await client.read(256)
        assert CAPACITY // 2 < gateway.buffers.total_bytes <= CAPACITY
        mine, others = [
            await stack.enter_async_context(server.requested("POST /v1/audio/speech/batch", batch(1), address, MIB))
            for address in ("127.0.0.1", "127.0.0.2")
        ]
        [refused] = json.loads((await body_of(mine))[1])["results"]
        assert "buffer_bytes: address 127.0.0.1 holds" in refused["error"]
        assert json.loads((await body_of(others))[1])["succeeded"] == 1
    await eventually(lambda: not gateway.buffers.total_bytes)


async def test_memory_of_batches_is_free_once_their_clients_have_hung_up(
    bus_settings: BusSettings, fleet: Fleet
) -> None:
    async with gateway_before_tone(bus_settings, fleet) as (gateway, server):
        gc.collect()
        gc.disable()  # what is part of a cycle stays until some collection, perhaps for hours
        tracemalloc.start()
        try:
            async with server.requested("POST /v1/audio/speech/batch", batch(12)):
                await eventually(lambda: gateway.buffers.total_bytes > CAPACITY // 2, 30)
                assert tracemalloc.get_traced_memory()[0] > CAPACITY // 2
            await eventually(lambda: not gateway.buffers.total_bytes)
            await eventually(lambda: tracemalloc.get_traced_memory()[0] < 2 * MIB)
        finally:
            tracemalloc.stop()
            gc.enable()


async def test_encoders_of_downloads_that_nobody_reads_fit_into_the_memory(bus_settings: BusSettings) -> None:
    capacity = 20 * MIB  # two encoders of FLAC, and a little
    async with (
        slow_gateway(bus_settings, buffer_bytes=capacity) as (gateway, server),
        contextlib.AsyncExitStack() as stack,
    ):
        job = tone_job(run_on=True)
        await gateway.jobs.accept(job)
        writer = await take(gateway.bus, job)
        await write_noise(writer, 40)
        await finish(writer)
        gateway.buffers._wait_s = 0.1

        async def status(codec: str, address: str) -> bytes:
            request = server.requested(f"GET /v1/jobs/{job.id}/audio?format={codec}", address=address)
            client = await stack.enter_async_context(request)
            while b"\r\n\r\n" not in client.data:
                assert await client.read(256)
            return client.data[9:12]

        assert [await status("flac", "127.0.0.1") for _ in range(4)] == [b"200", b"200", b"429", b"429"]
        assert gateway.buffers.total_bytes == 2 * 7 * MIB
        assert await status("mp3", "127.0.0.2") == b"200"
    await eventually(lambda: not gateway.buffers.total_bytes)
