"""A worker in front of an HTTP server: it takes jobs while the server can, and survives the death of either."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bus import wire
from bus.jobs.client import Bus
from tests.support.jobs import JobListener, ReceivedLog, listen, tone_job
from tests.support.programs import Fleet
from tests.support.upstream_servers import Behaviour, running, speech_pcm
from tests.support.waiting import eventually

TEXT = "One two three four five six seven eight."


def options(url: str, **more: object) -> list[str]:
    given = {"url": url, "repeats": True, **more}
    return [
        part
        for name, value in given.items()
        for part in (
            "--engine-option",
            f"upstream.qwen.{name}={str(value).lower() if isinstance(value, bool) else value}",
        )
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server_process(port: int, *flags: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "tests.support.upstream_servers", "--port", str(port), *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def job(text: str = TEXT) -> wire.Job:
    return tone_job(model="qwen", input=text)


async def heard(bus: Bus, text: str = TEXT) -> ReceivedLog:
    async with asyncio.timeout(60):
        return await listen(bus, job(text))


async def test_a_table_of_the_settings_is_a_model_that_a_worker_serves(fleet: Fleet, bus: Bus, tmp_path: Path) -> None:
    with running() as server:
        config = tmp_path / "antiphon.toml"
        config.write_text(f'[engines.upstream.qwen]\nurl = "{server.url}"\nmodel = "Qwen3-TTS"\n')
        worker = fleet.worker("w1", "upstream", 4, "--config", str(config), "--fail-timeout-s", "0.5")
        received = await heard(bus)
        assert received.pcm == speech_pcm(TEXT)
        done = wire.decode(wire.Done, received.end.payload)
        assert (done.completeness, done.engine) == ("unverified", {"api": "openai"})
        assert server.state.requests[0]["model"] == "Qwen3-TTS"
        # A wrong answer costs an attempt, and the next one speaks the text.
        server.state.behaviours.append(Behaviour(500, b"no memory"))
        received = await heard(bus, TEXT * 2)
        assert received.pcm == speech_pcm(TEXT * 2)
        assert [start.attempt for start in received.starts] == [2]
        # A server that fails the same text again ends the job, with its words, and opens the breaker.
        server.state.behaviours += [Behaviour(500, b"no memory"), Behaviour(500, b"no memory")]
        failed = wire.decode(wire.Failed, (await heard(bus, TEXT * 3)).end.payload)
        assert failed.code == "engine_failed"
        assert failed.message.endswith("upstream qwen answered 500: no memory")
        await eventually(lambda: worker.events("breaker.opened"))


@pytest.mark.slow
async def test_a_worker_takes_no_job_before_its_server_is_ready(fleet: Fleet, bus: Bus) -> None:
    with running() as server:
        server.state.health = (503, b"loading")
        worker = fleet.worker("w1", "upstream", 4, *options(server.url), wait=False)
        await asyncio.to_thread(worker.wait_for, "model.unready")
        async with asyncio.timeout(60), JobListener(bus, job()) as listener:
            await asyncio.sleep(0.3)
            assert not worker.events("job.started")
            server.state.health = (200, b"")
            received = await listener.to_the_end()
        assert received.pcm == speech_pcm(TEXT)
        server.state.health = (503, b"reloading")
        await asyncio.to_thread(worker.wait_for, "model.unready", 2)


async def test_audio_beyond_the_jobs_bound_ends_the_job_and_the_connection(fleet: Fleet, bus: Bus) -> None:
    with running() as server:
        server.state.behaviours.append(Behaviour(num_zeros=64 << 20))
        worker = fleet.worker("w1", "upstream", 4, *options(server.url, seconds_per_char=0.1))
        failed = wire.decode(wire.Failed, (await heard(bus)).end.payload)
        assert failed.code == "too_large"
        assert "qwen makes more than this job may have" in failed.message
        await eventually(lambda: server.state.num_left == 1)
        assert (await heard(bus)).pcm == speech_pcm(TEXT)
        assert not worker.events("host.ended")


@pytest.mark.slow
async def test_a_server_that_is_killed_in_mid_stream_comes_back_and_the_stream_goes_on(fleet: Fleet, bus: Bus) -> None:
    port = free_port()
    flags = options(f"http://127.0.0.1:{port}")
    with ExitStack() as servers:
        first = servers.enter_context(server_process(port, "--pace-s", "0.05"))
        worker = fleet.worker("w1", "upstream", 8, *flags)
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            listeners = [await group.create_task(begun(bus)) for _ in range(4)]
            first.send_signal(signal.SIGKILL)
            await asyncio.to_thread(worker.wait_for, "model.unready")
            servers.enter_context(server_process(port, "--pace-s", "0.01"))
            logs = [await rest(listener) for listener in listeners]
    for log in logs:
        assert log.end.kind == "done"
        assert log.pcm == speech_pcm(TEXT * 3)
        assert [start.exact for start in log.starts] == [True] * len(log.starts)
    assert not worker.events("breaker.opened")


@pytest.mark.slow
async def test_a_worker_that_is_killed_in_mid_stream_is_replaced(fleet: Fleet, bus: Bus) -> None:
    with running() as server:
        server.state.pace_s = 0.05
        first = fleet.worker("w1", "upstream", 8, *options(server.url))
        async with asyncio.timeout(90):
            listener = await begun(bus)
            fleet.worker("w2", "upstream", 8, *options(server.url))
            first.kill()
            log = await rest(listener)
        assert log.pcm == speech_pcm(TEXT * 3)
        assert [start.worker for start in log.starts] == ["w1", "w2"]
        # The request of the worker that is gone is cancelled by its connection.
        await eventually(lambda: server.state.num_running == 0)
        assert server.state.num_left == 1


async def begun(bus: Bus) -> JobListener:
    """A job whose first audio has arrived."""
    listener = JobListener(bus, job(TEXT * 3))
    await listener.__aenter__()
    await listener.until_bytes(1000)
    return listener


async def rest(listener: JobListener) -> ReceivedLog:
    received = await listener.to_the_end()
    await listener.__aexit__(None, None, None)
    return received


@pytest.mark.slow
async def test_the_server_that_a_worker_starts_logs_through_it_and_ends_with_it(
    fleet: Fleet, bus: Bus, tmp_path: Path
) -> None:
    port = free_port()
    command = f"{sys.executable} -m tests.support.upstream_servers --port {port} --slow-start-s 0.5"
    config = tmp_path / "antiphon.toml"
    config.write_text(f'[engines.upstream.qwen]\nurl = "http://127.0.0.1:{port}"\ncommand = "{command}"\n')
    worker = fleet.worker("w1", "upstream", 4, "--config", str(config), wait=False)
    assert (await heard(bus)).pcm == speech_pcm(TEXT)
    lines = [event for event in worker.events("library.logged") if event["module"] == "upstream.qwen"]
    assert [line["message"] for line in lines[:2]] == ["loading the model", f"listening on {port}"]
    worker.send(signal.SIGKILL)
    await eventually(lambda: not listens(port))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
