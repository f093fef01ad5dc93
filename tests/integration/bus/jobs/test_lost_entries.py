"""A server that has lost its newest messages, as after a loss of power: listeners go on from what there is."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bus import wire
from bus.errors import Cancelled
from bus.jobs.attach import Attachment
from bus.jobs.client import Bus, open_bus
from bus.jobs.log import Writer
from bus.jobs.submit import submit
from bus.settings import BusSettings
from bus.subjects import JobKey
from gateway.jobs.pcm_reader import PcmReader
from ops.local.nats_server import locked, prepare
from tests.support.jobs import tone_job
from tests.support.log_writer import RATE_HZ, finish, take, write_pcm
from tests.support.nats import running
from tests.support.restarts import steady_port
from tests.support.waiting import eventually

STARTED = wire.Started(media=wire.media_type(RATE_HZ, 1), worker="w1", attempt=2, model="tone", version="v1")


class Server:
    """A server that can be set back to what it had stored earlier."""

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._running = AsyncExitStack()
        self._port = steady_port()
        self.url = ""

    async def start(self) -> None:
        launch = prepare(self._folder, self._lock, port=self._port)
        _, endpoints = self._running.enter_context(running(launch))
        self._port = endpoints.port
        self.url = endpoints.nats

    async def restart(self, *, from_copy: bool) -> None:
        """Stop it, keep a copy of its store or go back to the copy, and start it."""
        await self.stop()
        store, copy = self._folder / "js", self._folder / "copy"
        if from_copy:
            shutil.rmtree(store)
        shutil.copytree(copy if from_copy else store, store if from_copy else copy)
        await self.start()

    async def stop(self) -> None:
        await self._running.aclose()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    with locked(tmp_path) as lock:
        server = Server(tmp_path, lock)
        await server.start()
        yield server
        await server.stop()


class Listener:
    def __init__(self) -> None:
        self.reader = PcmReader()
        self.pcm = b""

    async def listen(self, bus: Bus, key: JobKey) -> None:
        async with Attachment(bus.connection, bus.logs, key) as attachment:
            async for batch in attachment:
                self.pcm += self.reader.feed(batch)
        self.reader.check_complete()


async def reconnected(*buses: Bus, generation: int) -> None:
    for bus in buses:
        state = bus.connection.state
        await eventually(lambda state=state: state.is_up and state.generation == generation, within_s=30)


PCM = [bytes([number]) * 20 for number in range(12)]


@asynccontextmanager
async def set_back(server: Server) -> AsyncIterator[tuple[Bus, JobKey, Writer, Listener, "asyncio.Task[None]"]]:
    """A log of which the server has lost the last three of six blocks, its writer, and a listener that had them all."""
    settings = BusSettings(nats=server.url)
    async with open_bus(settings, "test") as bus, open_bus(settings, "test") as other:
        job = tone_job(run_on=True)
        await submit(bus, job)
        key = bus.subjects.job_key(job.tenant, job.id)
        writer = await take(bus, job)
        await write_pcm(writer, b"".join(PCM[:3]), 20)
        listener = Listener()
        listening = asyncio.create_task(listener.listen(other, key))
        await eventually(lambda: len(listener.pcm) == 60, within_s=30)
        await server.restart(from_copy=False)
        await reconnected(bus, other, generation=1)
        await write_pcm(writer, b"".join(PCM[3:6]), 20)
        await eventually(lambda: len(listener.pcm) == 120, within_s=30)
        await server.restart(from_copy=True)
        await reconnected(bus, other, generation=2)
        yield bus, key, writer, listener, listening
        listening.cancel()


async def test_a_listener_gets_every_frame_once_of_a_log_that_lost_its_newest_entries(server: Server) -> None:
    async with set_back(server) as (bus, key, writer, listener, listening):
        tail = await bus.logs.tail(key)
        assert tail is not None
        assert tail.position.frame == 30
        # The worker that takes the job over continues where the log ends now.
        again = Writer(bus.logs, key, writer.lease_seq, writer.lease, tail.position, STARTED, 5.0)
        await write_pcm(again, b"".join(PCM[3:]), 20)
        await finish(again)
        async with asyncio.timeout(30):
            await listening
        assert listener.pcm == b"".join(PCM)


async def test_a_listener_gets_an_end_that_comes_before_the_entries_it_had(server: Server) -> None:
    async with set_back(server) as (bus, key, _, listener, listening):
        await bus.logs.end(key, wire.End.CANCELLED, "lost")
        async with asyncio.timeout(30):
            with pytest.raises(Cancelled, match="lost"):
                await listening
        assert listener.pcm == b"".join(PCM[:6])
