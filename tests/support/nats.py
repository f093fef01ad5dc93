"""One real nats-server for a test run, and namespaces on it."""

import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bus.process import die_with_parent
from ops.local.nats_server import Endpoints, Launch, locked, log_tail, prepare, ready

READY_S = 30.0


@contextmanager
def nats_server(*, max_store_bytes: int = 1 << 40) -> Iterator[str]:
    """Yield the client URL of a server on a store of its own. The store goes with the block."""
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, locked(Path(folder)) as lock:
        launch = prepare(Path(folder), lock, port=0, max_store_bytes=max_store_bytes)
        with running(launch) as (_, endpoints):
            yield endpoints.nats


@contextmanager
def running(launch: Launch) -> Iterator[tuple["subprocess.Popen[bytes]", Endpoints]]:
    """Start what `launch` describes, wait until it is healthy, and stop it after the block."""
    with launch.output.open("ab") as out:
        process = subprocess.Popen(
            launch.argv,
            stdout=out,
            stderr=out,
            pass_fds=(launch.lock,),
            # No other thread touches what it needs.
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509
        )
    try:
        deadline = time.monotonic() + READY_S
        while (endpoints := ready(launch.state, process.pid)) is None:
            assert process.poll() is None, f"nats-server exited {process.returncode}: {log_tail(launch.state)}"
            assert time.monotonic() < deadline, f"nats-server not healthy after {READY_S} s: {log_tail(launch.state)}"
            time.sleep(0.01)
        yield process, endpoints
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)


def fresh_root() -> str:
    """A namespace that no other test of any run uses."""
    return f"t{uuid.uuid4().hex[:12]}"
