"""A long-running process: its signals, and the hints that its errors become."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bus.errors import NoServer, Unreachable
from ops.local.process import operator_hint

ROOT = Path(__file__).parents[4]

SERVES = """
import asyncio, sys
from gateway.settings import GatewaySettings
from ops.local.process import run
async def serve(settings, stop):
    print("serving", flush=True)
    await stop.wait()
    if sys.argv[1] == "ends":
        return
    print("draining", flush=True)
    await asyncio.sleep(60)
run("gateway", GatewaySettings(), serve, level="info", form="json")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_a_second_one_ends_at_once(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVES, "lingers"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "serving\n"
        process.send_signal(number)
        assert process.stdout.readline() == "draining\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
        events = [json.loads(line)["event"] for line in process.stderr]
    assert events == ["process.started", "process.stopping"]


def test_one_signal_is_a_clean_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVES, "ends"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        process.terminate()
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert json.loads(process.stderr.readlines()[-1])["event"] == "process.stopped"


def test_a_bus_that_is_not_there_is_said_with_what_to_do() -> None:
    gone = ExceptionGroup("", [ExceptionGroup("", [NoServer("no NATS at nats://b:1 within 30 s")])])
    assert (
        operator_hint(gone, ())
        == "no NATS at nats://b:1 within 30 s; start a nats-server there, or give the address of one with --nats"
    )
    assert operator_hint(Unreachable("NATS has closed the connection for good"), ()) == (
        "NATS has closed the connection for good"
    ), "there is one"
    assert operator_hint(ExceptionGroup("", [Unreachable("a"), ValueError("b")]), ()) == ""
    assert operator_hint(ValueError("a bug"), ()) == ""


def test_a_worker_whose_port_is_taken_gets_a_hint_with_its_own_flags() -> None:
    hint = operator_hint(OSError(errno.EADDRINUSE, "Address already in use"), ())
    assert hint.startswith("Address already in use; choose another")
    assert "--metrics-port" in hint


def test_a_file_that_may_not_be_read_is_no_address() -> None:
    assert operator_hint(PermissionError(errno.EACCES, "Permission denied", "/etc/key"), ()) == ""
