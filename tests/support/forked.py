"""Our programs, forked from a process that has imported them: a start costs a twentieth of a second, not half of one.

Each child runs `ops.cli.main.main` with its flags, gets signals like any other process, and exits the way the interpreter
does. The tests of `antiphon up` start the command itself.

Run as a program, this module is that process. An order is one packet with the write end of a pipe; the child's id
and, later, its exit code are written into it, 4 bytes each. The server ends with the process that uses it, its children with it.
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
#: Modules that the commands import when they run.
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
    """One program, with what tests use of `subprocess.Popen`. `errors`, `output`: files that its output is appended to."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], errors: str, output: str = os.devnull
    ) -> None:
        order = {"argv": [*argv], "environment": dict(environment), "errors": errors, "output": output}
        message = json.dumps(order).encode()
        self._status, writing = os.pipe()
        socket.send_fds(_server(), [message], [writing])
        os.close(writing)
        self.pid: int = _NUMBER.unpack(os.read(self._status, _NUMBER.size))[0]
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs. Any thread may call it."""
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], 0)[0]:
                status = os.read(self._status, _NUMBER.size)
                # A server that died took its children along.
                self.returncode = _NUMBER.unpack(status)[0] if status else -signal.SIGKILL
            return self.returncode

    def close(self) -> None:
        """After its end."""
        os.close(self._status)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        if self.poll() is None:
            select.select([self._status], [], [], timeout)
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
    """The server's side: the children that run, and the pipes for their exit codes."""

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
                with contextlib.suppress(BrokenPipeError):  # the process that started it is gone
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
    # Every call of the app builds all commands again, and a process needs only one.
    cli = importlib.import_module("ops.cli.main")
    cli.app = get_command(cli.app)
    # Else a child's collector writes to every object that it has from here, and the system copies every page.
    gc.collect()
    gc.freeze()
    if (ordered := _Forked(socket.socket(fileno=os.dup(0))).serve()) is not None:
        _become(**ordered)
