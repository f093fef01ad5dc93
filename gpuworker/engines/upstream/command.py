"""A server that this worker starts, starts again when it ends, and stops; its lines become log lines of ours."""

import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

#: Until the command is started again, doubled at each end in a row.
_FIRST_DELAY_S: Final = 0.5
_LAST_DELAY_S: Final = 30.0
#: A command that ran for so long begins with the first delay again.
_STEADY_S: Final = 60.0
_LINE_CHARS: Final = 2000
_PACKAGES: Final = Path(__file__).resolve().parents[3]
#: Becomes the command, which gets SIGTERM when this process dies, so that it can end children of its own. Not by
#: `preexec_fn`, which may deadlock in a process with threads; the command's environment stays as it is. The engine host
#: ignores SIGTERM, which a child inherits.
_LAUNCHER: Final = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from bus.process import die_with_parent
signal.signal(signal.SIGTERM, signal.SIG_DFL)
die_with_parent(int(sys.argv[2]), signal.SIGTERM)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Command:
    """Between `start` and `stop` the command runs, or is about to be started again; `reason` says why it does not."""

    def __init__(self, model: str, command: str, stop_s: float) -> None:
        """`command`: a program and its arguments, split as a shell does, run without one. Raises ValueError."""
        try:
            self._argv = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"command: {error}") from error
        if not self._argv:
            raise ValueError("command: is blank")
        self._stop_s = stop_s
        #: The host logs each line as `library.logged`; the module names the model.
        self._lines = logging.getLogger(f"upstream.{model}")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        #: "" while the command runs.
        self.reason = "its command is being started"

    def start(self) -> None:
        """Start the command in the background. Idempotent."""
        if self._thread is None:
            self._stopping.clear()
            # The kernel ends the command when the thread that started it ends: this one lives as long as the command.
            self._thread = threading.Thread(target=self._run, name="command", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """SIGTERM to the command and its children, SIGKILL after `stop_s`; returns when it has ended. Idempotent."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        if self._thread is not None:
            self._thread.join(self._stop_s)
            if self._thread.is_alive() and process is not None:
                _kill_group(process)
                self._thread.join(self._stop_s)
            self._thread = None

    def _run(self) -> None:
        num_ends = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            ended = self._live()
            num_ends = 1 if time.monotonic() - began >= _STEADY_S else num_ends + 1
            delay_s = min(_LAST_DELAY_S, _FIRST_DELAY_S * 2 ** (num_ends - 1))
            self.reason = f"its command {ended}"
            if not self._stopping.is_set():
                self._lines.error("the command %s; it is started again in %g s", ended, delay_s)
                self._stopping.wait(delay_s)

    def _live(self) -> str:
        """Run the command once; how it ended."""
        if shutil.which(self._argv[0]) is None:
            return f"cannot be started: there is no program {self._argv[0]!r}"
        launcher = [sys.executable, "-SE", "-c", _LAUNCHER, str(_PACKAGES), str(os.getpid())]
        try:
            process = subprocess.Popen(
                [*launcher, *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be started: {error}"
        self._process = process
        self.reason = ""
        if self._stopping.is_set():  # `stop` came before it could see the process
            process.terminate()
        last = ""
        assert process.stdout is not None
        with process.stdout:
            while line := process.stdout.readline(_LINE_CHARS):
                last = line.decode(errors="replace").rstrip() or last
                self._lines.info("%s", line.decode(errors="replace").rstrip())
        code = process.wait()
        _kill_group(process)
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"{how}, after the line {last[:200]!r}" if last else how


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of the command's children, so that none keeps the device."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
