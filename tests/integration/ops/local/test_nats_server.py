"""The private nats-server: one store, one server, one port for life."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nats
import pytest

from ops.local.nats_server import NatsServerError, locked, prepare
from ops.local.system import free_port
from tests.support.nats import running
from tests.support.programs import wait_gone


async def test_it_comes_back_on_the_same_port_with_what_it_had_stored(tmp_path: Path) -> None:
    with locked(tmp_path) as lock:
        with running(prepare(tmp_path, lock, port=0)) as (process, first):
            async with await nats.connect(first.nats) as client:
                await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
                await client.jetstream().publish("kept", b"before")
            process.kill()
            process.wait(timeout=20)
        with running(prepare(tmp_path, lock, port=first.port)) as (_, second):
            assert second.nats == first.nats
            async with await nats.connect(first.nats) as client:
                assert (await client.jetstream().get_msg("KEPT", 1)).data == b"before"


def test_a_second_owner_of_a_store_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(NatsServerError, match=rf"in use by process {os.getpid()}; .*--state"):
        locked(tmp_path, patience_s=0).__enter__()
    with locked(tmp_path, patience_s=0):
        pass


def test_the_server_itself_keeps_the_lock_when_its_starter_let_go(tmp_path: Path) -> None:
    with locked(tmp_path) as lock:
        launch = prepare(tmp_path, lock, port=0)
        context = running(launch)
        context.__enter__()
    with pytest.raises(NatsServerError, match="in use"):
        locked(tmp_path, patience_s=0).__enter__()
    context.__exit__(None, None, None)
    with locked(tmp_path, patience_s=0):
        pass


def test_a_taken_port_is_refused_by_number_and_flag(tmp_path: Path, nats_url: str) -> None:
    taken = urlsplit(nats_url).port
    with locked(tmp_path) as lock, pytest.raises(NatsServerError, match=rf"port {taken} .* taken.*--nats-port"):
        prepare(tmp_path, lock, port=taken)


def test_a_given_port_is_the_port(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    with locked(tmp_path) as lock, running(prepare(tmp_path, lock, port=port)) as (_, endpoints):
        assert endpoints.nats == f"nats://127.0.0.1:{port}"


STARTER = """
import sys
from pathlib import Path
from ops.local.nats_server import locked, prepare
from tests.support.nats import running
with locked(Path(sys.argv[1])) as lock, running(prepare(Path(sys.argv[1]), lock, port=0)) as (process, _):
    print(process.pid, flush=True)
    sys.stdin.read()
"""


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)
        starter.wait(timeout=20)
        # The lock is free when the server has let its files go, a moment before it is gone.
        with locked(tmp_path, patience_s=20):
            wait_gone(pid)
