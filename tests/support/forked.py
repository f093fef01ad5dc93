"""Our programs, forked from a process that has imported them: a start costs a twentieth of a second, not half of one.

What runs is `ops.cli.main.main` with its flags, in a process of its own that is told, stopped and killed like any other, and
that ends the way the interpreter ends. That the command starts from nothing is for the tests of `antiphon up`.

Run as a program, this module is that process. An order comes as one packet with the write end of a pipe; into it go
the child's id and, later, its exit code, 4 bytes each. The server ends with its orderer, its children end with it.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from typer.main import get_command

from bus.process import die_with_parent

ROOT = Path(__file__).parents[2]
#: What the commands would import when they run.
LOADED = (
    *(
        "typer._adapters",
        "encodings.idna",
        "ops.cli.main",
        "ops.local.process",
        "ops.commands.dead",
        "ops.commands.drain",
        "ops.commands.keys",
        "ops.commands.show",
    ),
    *("gateway.serve", "gateway.dialects.registry", "gpuworker.worker.serve", "gpuworker.engines.tone"),
)
_NUMBER = struct.Struct("<i")
_MAX_ORDER_BYTES = 1 << 17


class Process:
    """One program, with what tests use of `subprocess.Popen`. `errors`, `output`: files that what it says is appended to."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], errors: str, output: str = os.devnull
    ) -> None:
        told = {"argv": [*argv], "environment": dict(environment), "errors": errors, "output": output}
        order = json.dumps(told).encode()
        self._told, tell = os.pipe()
        socket.send_fds(_server(), [order], [tell])
        os.close(tell)
        self.pid: int = _NUMBER.unpack(os.read(self._told, _NUMBER.size))[0]
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs. Any thread may ask."""
        with self._lock:
            if self.returncode is None and select.select([self._told], [], [], 0)[0]:
                told = os.read(self._told, _NUMBER.size)
                # A server that died took its children along.
                self.returncode = _NUMBER.unpack(told)[0] if told else -signal.SIGKILL
            return self.returncode

    def close(self) -> None:
        """After its end."""
        os.close(self._told)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        if self.poll() is None:
            select.select([self._told], [], [], timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("antiphon", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _server() -> socket.socket:
    """Where this process sends its orders; the server is started by the first."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen([sys.executable, "-m", __name__], stdin=theirs, cwd=ROOT)
    theirs.close()

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait(10)

    return ours


class _Forked:
    """The server's side: which children run, and whom to tell of their ends."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._tell: dict[int, int] = {}
        self._follow = partial(die_with_parent, os.getpid(), signal.SIGKILL)
        woken, wake = os.pipe()
        self._woken = woken
        self._wake = wake
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def serve(self) -> dict[str, Any] | None:
        """Fork for every order. Returns the order in the child that is to do it, None in the server at the end."""
        while True:
            ready, _, _ = select.select([self._orders, self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._orders in ready:
                order, pipes, _, _ = socket.recv_fds(self._orders, _MAX_ORDER_BYTES, 1)
                if not order:
                    return None
                if not (pid := os.fork()):
                    self._leave(pipes[0])
                    return dict(json.loads(order))
                self._tell[pid] = pipes[0]
                os.write(pipes[0], _NUMBER.pack(pid))

    def _reap(self) -> None:
        for pid, tell in list(self._tell.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._tell[pid]
                with contextlib.suppress(BrokenPipeError):  # nobody asks any more
                    os.write(tell, _NUMBER.pack(os.waitstatus_to_exitcode(status)))
                os.close(tell)

    def _leave(self, tell: int) -> None:
        """In a child: nothing of the server's stays."""
        self._follow()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor in (self._woken, self._wake, tell, *self._tell.values()):
            os.close(descriptor)
        self._orders.close()


def _become(argv: list[str], environment: dict[str, str], errors: str, output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for standard, path in enumerate((os.devnull, output, errors)):
        opened = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(opened, standard)
        os.close(opened)
    sys.argv = ["antiphon", *argv]
    importlib.import_module("ops.cli.main").main()


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    importlib.import_module("gateway.dialects.registry").dialects()
    # Every call of the app builds every command anew, of which a process needs one.
    cli = importlib.import_module("ops.cli.main")
    cli.app = get_command(cli.app)
    # Else a child's collector writes to every object that it has from here, and the system copies every page.
    gc.collect()
    gc.freeze()
    if (ordered := _Forked(socket.socket(fileno=os.dup(0))).serve()) is not None:
        _become(**ordered)
