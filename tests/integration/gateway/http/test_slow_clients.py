"""Clients that read slowly or not at all: the bytes that wait for one are bounded, and so is the time."""

import asyncio
import contextlib
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from bus.jobs.log import Writer
from bus.settings import BusSettings
from gateway.compose import Services
from tests.support.jobs import tone_job
from tests.support.log_writer import finish, take
from tests.support.slow import SlowServer, slow_gateway, slow_server, write_noise
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

#: Bytes that wait for one client, by `docs/operations.md`: in this process without an encoder, and in the kernel.
HELD_BYTES = 512 << 10
KERNEL_BYTES = 256 << 10
#: The part of it that was written and that the kernel did not take.
WAITING_BYTES = 192 << 10
#: Looks, 2 ms apart, between which no byte may have moved.
STILL_LOOKS = 100


async def until_still(server: SlowServer) -> None:
    """Until every connection waits for its client and nothing moves any more."""
    before: list[int] = []
    num_looks = 0

    def is_still() -> bool:
        nonlocal before, num_looks
        now = [*server.waiting_bytes, *server.kernel_bytes]
        num_looks = num_looks + 1 if now == before and all(server.waiting_bytes) else 0
        before = now
        return num_looks >= STILL_LOOKS

    await eventually(is_still, 30)


def traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@contextlib.asynccontextmanager
async def made(gateway: Services, num_blocks: int) -> AsyncIterator[tuple[str, Writer]]:
    """A job that runs, and has so many seconds of audio: its id, and the writer of its log."""
    bus, job = gateway.bus, tone_job(run_on=True)
    await gateway.jobs.accept(job)
    writer = await take(bus, job)
    await write_noise(writer, num_blocks)
    yield job.id, writer


@pytest.mark.parametrize("codec", ["pcm", "opus", "mp3"])
@pytest.mark.parametrize("comes", ["while it is made", "when it is there"])
async def test_bytes_that_wait_for_clients_that_do_not_read_are_bounded(
    bus_settings: BusSettings, codec: str, comes: str
) -> None:
    num_readers, num_blocks = 6, 50
    async with slow_gateway(bus_settings) as (gateway, server), contextlib.AsyncExitStack() as stack:
        job, writer = await stack.enter_async_context(made(gateway, num_blocks if comes == "when it is there" else 1))
        tracemalloc.start()
        try:
            held_before = traced_bytes()
            for _ in range(num_readers):
                client = await stack.enter_async_context(server.requested(f"GET /v1/jobs/{job}/audio?format={codec}"))
                await client.read(1)
            if comes == "while it is made":
                await write_noise(writer, num_blocks)
            await until_still(server)
            held = (traced_bytes() - held_before) / num_readers
        finally:
            tracemalloc.stop()
        assert held < HELD_BYTES, f"{held / 1024:.0f} KiB each"
        assert max(server.waiting_bytes) < WAITING_BYTES
        assert max(server.kernel_bytes) < KERNEL_BYTES


async def test_a_finished_file_waits_for_a_slow_client_in_the_cache(bus_settings: BusSettings) -> None:
    async with slow_gateway(bus_settings) as (gateway, server), made(gateway, 100) as (job, writer):
        await finish(writer)
        cache = gateway.encoded
        async with (
            server.requested(f"GET /v1/jobs/{job}/audio?format=mp3\nRange: bytes=0-") as whole,
            server.requested(f"GET /v1/jobs/{job}/audio?format=mp3\nRange: bytes=100-") as part,
        ):
            await asyncio.gather(whole.read(1), part.read(1))
            await until_still(server)
            assert max(server.waiting_bytes) < WAITING_BYTES
            # 1.6 MB, lent to both: as long as they read it, it takes of the room for all.
            assert 1_500_000 < cache.sending_bytes < 1_700_000, "one body for both"
        await eventually(lambda: not cache.sending_bytes)


async def test_files_of_slow_clients_exceed_the_cache_by_no_byte(bus_settings: BusSettings) -> None:
    """A second file that would not fit beside one that is being read is streamed instead, and not kept."""
    async with (
        slow_gateway(bus_settings, encoded_cache_bytes=3_000_000) as (gateway, server),
        made(gateway, 85) as (first, writer),
        made(gateway, 85) as (second, other),
    ):
        await finish(writer)
        await finish(other)
        async with server.requested(f"GET /v1/jobs/{first}/audio?format=mp3\nRange: bytes=0-") as slow:
            await slow.read(1)
            sending_bytes = gateway.encoded.sending_bytes
            assert sending_bytes > 1_300_000
            gateway.encoded.max_bytes = 2_000_000
            async with server.requested(f"GET /v1/jobs/{second}/audio?format=mp3\nRange: bytes=0-") as second_client:
                while b"\r\n\r\n" not in second_client.data:
                    await second_client.read(4096)
                assert second_client.data.startswith(b"HTTP/1.1 200 ")
                assert b"Content-Length" not in second_client.data
            assert gateway.encoded.sending_bytes == sending_bytes


async def test_files_that_slow_clients_request_together_exceed_the_cache_by_no_byte(
    bus_settings: BusSettings,
) -> None:
    """Each of them would fit when they ask; two of three do once they are made."""
    async with (
        slow_gateway(bus_settings, encoded_cache_bytes=3_000_000) as (gateway, server),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = []
        for _ in range(3):
            job, writer = await stack.enter_async_context(made(gateway, 85))
            await finish(writer)
            request = f"GET /v1/jobs/{job}/audio?format=mp3\nRange: bytes=0-"
            clients.append(await stack.enter_async_context(server.requested(request)))
        for client in clients:
            while b"\r\n\r\n" not in client.data:
                await client.read(4096)
        assert sorted(client.data[:13] for client in clients) == [b"HTTP/1.1 200 ", b"HTTP/1.1 206 ", b"HTTP/1.1 206 "]
        assert gateway.encoded.sending_bytes <= 3_000_000


async def test_a_client_that_does_not_read_is_reset_and_its_job_ends(bus_settings: BusSettings) -> None:
    patience_s = 0.4
    async with slow_gateway(bus_settings, patience_s) as (gateway, server):
        bus, job = gateway.bus, tone_job(run_on=False)
        name = bus.subjects.job_key("public", job.id)
        await gateway.jobs.accept(job)
        writer = await take(bus, job)
        await write_noise(writer, 20)
        began = time.monotonic()
        with capture_logs() as logs:
            async with server.requested(f"GET /v1/jobs/{job.id}/audio?format=pcm") as client:
                await client.read(1)
                await eventually(lambda: not server.transports)
                took_s = time.monotonic() - began
                with pytest.raises(ConnectionResetError):
                    while await client.read(1 << 16):
                        continue
        assert took_s >= patience_s
        [event] = [each for each in logs if each["event"] == "stream.stalled"]
        assert (event["job"], event["tenant"]) == (job.id, "public")
        assert event["waited_s"] >= patience_s * 0.97
        assert 0 < event["waiting_bytes"] < WAITING_BYTES
        # It was the only listener, and the job does not run on without one.
        async with asyncio.timeout(20):
            while (tail := await bus.logs.tail(name)) is None or not tail.is_end:
                await asyncio.sleep(0.01)
        assert tail.kind == "cancelled"


async def test_a_reader_that_takes_something_now_and_then_is_waited_for() -> None:
    patience_s, num_reads, body = 3.0, 12, bytes(4 << 20)

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body)  # in one piece: something of it waits all the time

    async with slow_server(web.Server(answer), patience_s) as server, server.requested("GET /") as client:
        for _ in range(num_reads):
            # Slowness itself is the matter here: together twice as long as one that stands still may take.
            await asyncio.sleep(2 * patience_s / num_reads)
            wanted = len(client.data) + (128 << 10)
            while len(client.data) < wanted:
                assert await client.read(32 << 10)
            assert server.waiting_bytes[0] > 0
        await eventually(lambda: not server.transports)
        with pytest.raises(ConnectionResetError):
            while await client.read(1 << 16):
                continue
