"""The log of a job without a worker: a test takes the lease and writes the entries."""

import asyncio

from bus import wire
from bus.jobs.client import Bus
from bus.jobs.entry import Position
from bus.jobs.log import Writer
from tests.support.bus import num_jobs

RATE_HZ = 24_000


async def take(bus: Bus, job: wire.Job) -> Writer:
    """Take an accepted job's first lease; the writer of its log, mono at 24 kHz."""
    key = bus.subjects.job_key(job.tenant, job.id)
    lease = wire.Lease(state=wire.LeaseState.RUNNING, worker="w0", boot="b", attempt=1)
    started = wire.Started(media=wire.media_type(RATE_HZ, 1), worker="w0", attempt=1, model="tone", version="v1")
    return Writer(bus.logs, key, await bus.logs.take(key, lease, 0), lease, Position(), started, 5.0)


async def write_pcm(writer: Writer, pcm: bytes, block_bytes: int = 48_000) -> None:
    """Write s16le PCM in blocks of `block_bytes`, a second by default."""
    for at in range(0, len(pcm), block_bytes):
        block = pcm[at : at + block_bytes]
        await writer.block(block, len(block) // 2)


async def finish(writer: Writer) -> None:
    """Write the entry `done`."""
    at = writer.position
    done = wire.Done(blocks=at.block, frames=at.frame, seconds=at.frame / RATE_HZ, crc32=f"{at.crc32:08x}")
    await writer.end(wire.End.DONE, done)


async def write_log(bus: Bus, job: wire.Job, num_blocks: int, *, is_done: bool = True) -> Writer:
    """Write blocks of ten frames, each with its number as all of its bytes, and `done` unless `is_done` is False."""
    writer = await take(bus, job)
    await write_pcm(writer, b"".join(bytes([block]) * 20 for block in range(num_blocks)), 20)
    if is_done:
        await finish(writer)
    return writer


async def until_ended(bus: Bus, job: wire.Job, within_s: float = 20.0) -> str:
    """Wait for the log's terminal entry; its kind."""
    key = bus.subjects.job_key(job.tenant, job.id)
    async with asyncio.timeout(within_s):
        while (tail := await bus.logs.tail(key)) is None or not tail.is_end:
            await asyncio.sleep(0.01)
    return tail.kind


async def until_queued(bus: Bus, most: int) -> None:
    """Wait until JOBS has at most `most` messages: a job's message is removed after its end is in the log."""
    async with asyncio.timeout(20):
        while await num_jobs(bus) > most:
            await asyncio.sleep(0.01)
