"""Between the death of an engine host and the moment its worker has buried it, nobody may be hurt by talking to it."""

import asyncio
import socket

import pytest
import uvloop

from bus import wire
from gpuworker.settings import WorkerSettings
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.stream import HandBack, Stream

JOB = wire.Job(id="j", input="tone", model="tone")


async def host_that_has_just_died() -> EngineHost:
    """With one job in it, and its socket closed by the other side; nothing has told the worker yet."""
    host = EngineHost(["tone"], WorkerSettings(), lambda: None, lambda: None)
    ours, theirs = socket.socketpair()
    gone = asyncio.Event()

    class Ears(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            gone.set()

    host._transport, _ = await asyncio.get_running_loop().create_connection(Ears, sock=ours)
    host.loaded.add("tone")
    theirs.close()
    await asyncio.wait_for(gone.wait(), 20)
    return host


async def a_job_goes_to_somebody_else() -> None:
    host = await host_that_has_just_died()
    assert not host.is_up
    with pytest.raises(HandBack):
        host.open(JOB, 0, 1, None, EntrySize(24_000, 2))


async def a_running_job_is_let_go() -> None:
    host = await host_that_has_just_died()
    stream = host._streams[1] = Stream(1, EntrySize(24_000, 2), host._credit)
    host._credit(1, 4800)
    host.close(stream)
    assert not host._streams


@pytest.mark.parametrize("scenario", [a_job_goes_to_somebody_else, a_running_job_is_let_go], ids=lambda s: s.__name__)
def test_a_host_that_has_just_died_takes_no_worker_with_it(scenario: object) -> None:
    """On uvloop, as a worker runs: there a write to a closed transport raises, and asyncio's own only warns."""
    uvloop.run(scenario())  # type: ignore[operator]
