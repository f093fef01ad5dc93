"""The engine `upstream` in front of a small server, driven as a host drives it."""

import time
from collections.abc import Iterator

import pytest

from gpuworker import registry
from gpuworker.conformance.driving import Output, checked
from gpuworker.engine import Engine, EngineJob, MemoryPolicy, Pause
from gpuworker.host.group import to_s16le
from gpuworker.registry import ServedModel
from tests.support.upstream_servers import Running, running

TEXT = "One two three four five six seven eight."
JOB = EngineJob(id="j", input=TEXT)


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as server:
        yield server


def loaded(server: Running, **options: object) -> Engine:
    """The engine, ready."""
    engine = registry.make_model(ServedModel("qwen", "upstream", {"url": server.url, **options}))
    engine.load("cpu", MemoryPolicy())
    until = time.monotonic() + 20
    while engine.unready():  # type: ignore[attr-defined]
        assert time.monotonic() < until, engine.unready()  # type: ignore[attr-defined]
        time.sleep(0.01)
    return engine


def spoken(engine: Engine, job: EngineJob = JOB) -> bytes:
    """The audio of a job as s16le; pauses are slept, as in a host."""
    output = Output(engine.capabilities().channels)
    for _, event in engine.generate([checked(engine, job)]):
        output.add(event)
        if isinstance(event, Pause):
            time.sleep(event.seconds)
    assert output.done is not None
    return to_s16le(output.pcm)
