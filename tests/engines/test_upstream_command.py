"""A server that the engine starts: started again when it ends, its lines logged, its children ended with it."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from bus.settings import SettingsError
from gpuworker import registry
from gpuworker.engine import MemoryPolicy
from gpuworker.registry import ServedModel
from tests.support.upstream_engine import JOB, spoken


def until(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def made(command: str, port: int, **options: object) -> Any:
    return registry.make_model(
        ServedModel("qwen", "upstream", {"url": f"http://127.0.0.1:{port}", "command": command, **options})
    )


def server_of(port: int) -> psutil.Process | None:
    children = psutil.Process(os.getpid()).children()
    return next((child for child in children if str(port) in child.cmdline()), None)


@pytest.mark.slow
def test_a_command_is_started_again_when_it_was_killed_and_stopped_with_the_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    engine = made(f"{sys.executable} -m tests.support.upstream_servers --port {port}", port)
    engine.load("cpu", MemoryPolicy())
    until(lambda: not engine.unready())
    assert spoken(engine)
    lines = [record.getMessage() for record in caplog.records if record.name == "upstream.qwen"]
    assert lines[:2] == ["loading the model", f"listening on {port}"]
    first = server_of(port)
    assert first is not None
    first.send_signal(signal.SIGKILL)
    until(
        lambda: engine.unready() == f"upstream qwen: its command was ended by signal 9, after the line {last(caplog)!r}"
    )
    until(lambda: not engine.unready())
    assert spoken(engine, JOB)
    engine.unload()
    assert server_of(port) is None


def last(caplog: pytest.LogCaptureFixture) -> str:
    lines = [r.getMessage() for r in caplog.records if r.name == "upstream.qwen" and r.levelno == logging.INFO]
    return lines[-1]


def test_a_command_that_cannot_run_says_why_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    engine = made("/no/such/server --port 1", 1)
    engine.load("cpu", MemoryPolicy())
    until(lambda: "cannot be started" in engine.unready())
    assert "there is no program '/no/such/server'" in engine.unready()
    until(lambda: len([r for r in caplog.records if "it is started again in" in r.getMessage()]) >= 2)
    engine.unload()


def test_a_command_that_ignores_sigterm_is_killed_with_its_children() -> None:
    script = "trap '' TERM; sleep 1000 & echo started; wait; wait"
    engine = made(f'sh -c "{script}"', 1, stop_s=0.2)
    engine.load("cpu", MemoryPolicy())
    until(sleepers)
    engine.unload()
    until(lambda: not sleepers())


def sleepers() -> list[int]:
    found = psutil.Process(os.getpid()).children(recursive=True)
    return [child.pid for child in found if child.is_running() and child.name() == "sleep"]


def test_a_quote_that_does_not_end_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"engines\.upstream\.qwen: command: No closing quotation"):
        made("sh -c 'oops", 1)
