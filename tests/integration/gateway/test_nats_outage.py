"""nats-server killed under running streams, and back again on the same port and store."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bus.jobs.client import open_bus
from ops.local.nats_server import locked, prepare
from tests.support.fleets import small_bus
from tests.support.jobs import JobListener, tone_job
from tests.support.nats import running
from tests.support.programs import fleet_of
from tests.support.tone import tone_pcm


class Server:
    """A nats-server that can be killed and started again where it was."""

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._port = 0
        self._stack = ExitStack()

    def start(self) -> str:
        launch = prepare(self._folder, self._lock, port=self._port, max_store_bytes=1 << 30)
        self.process, endpoints = self._stack.enter_context(running(launch))
        self._port = endpoints.port
        return endpoints.nats

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        self._stack.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, locked(Path(folder)) as lock:
        server = Server(Path(folder), lock)
        yield server
        server.end()


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0.0, 3.0], ids=["at once", "longer than ack_wait"])
async def test_streams_survive_a_killed_nats_server_sample_exact_and_without_an_attempt(
    server: Server, away_s: float
) -> None:
    settings = small_bus(server.start(), ack_wait_s=2.0)
    with fleet_of(settings) as fleet:
        fleet.worker("w1", "tone", 20)
        async with asyncio.timeout(60), open_bus(settings, "gateway") as bus, asyncio.TaskGroup() as group:
            jobs = [tone_job(seconds=4, block_ms=50, compute_ms=50, device="own") for _ in range(20)]
            begun, hit = [asyncio.Event() for _ in jobs], asyncio.Event()

            async def hear(job_index: int) -> tuple[bytes, list[int], str]:
                async with JobListener(bus, jobs[job_index]) as listener:
                    await listener.until_bytes(10_000)
                    begun[job_index].set()
                    await hit.wait()
                    received = await listener.to_the_end()
                    return received.pcm, [start.attempt for start in received.starts], received.end.kind

            hearing = [group.create_task(hear(index)) for index in range(len(jobs))]
            for event in begun:
                await event.wait()
            server.kill()
            hit.set()
            if away_s:
                await asyncio.sleep(away_s)  # the outage itself: longer than ack_wait, nothing to wait for
            await asyncio.to_thread(server.start)
        for task in hearing:
            assert task.result() == (tone_pcm(4), [1], "done")
