"""`antiphon up` as a child of a test."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
READY_S = 30.0
#: For the line that says so, on a machine that does much else.
_PATIENCE_S = 90.0


class Up:
    """A running stack: what it announced, and what it wrote to stderr."""

    def __init__(self, process: "subprocess.Popen[str]", errors: Path) -> None:
        self.process = process
        self._errors = errors
        assert process.stdout is not None
        too_late = threading.Timer(_PATIENCE_S, process.kill)
        too_late.start()
        line = process.stdout.readline()
        too_late.cancel()
        assert line, f"it ended, or was not ready within {_PATIENCE_S:g} s: {errors.read_text()}"
        self.ready_line: dict[str, Any] = json.loads(line)
        self.http: str = self.ready_line["http"]

    def pids(self) -> list[int]:
        """Of every process under it, engine hosts included."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def events(self) -> list[dict[str, Any]]:
        """Every line of stderr; fails if one is not JSON."""
        whole = self._errors.read_text().rpartition("\n")[0]  # another may be on its way
        return [json.loads(line) for line in whole.splitlines()]

    def stop(self) -> str:
        """SIGTERM; what came on stdout after the announcement. The exit code must be 0."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0
        assert self.process.stdout is not None
        return self.process.stdout.read()


@contextmanager
def running(state: Path, *flags: str, root: Path = ROOT, path: tuple[Path, ...] = ()) -> Iterator[Up]:
    """The stack of the source tree in `root`; `path`: folders with further packages."""
    errors = state.with_suffix(".stderr")
    ports = ("--http-port", "0", "--nats-port", "0", "--state", str(state))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    environ["PYTHONPATH"] = os.pathsep.join(map(str, (root, *path)))
    with (
        errors.open("ab") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "ops.cli.main", "up", "--json", *ports, *flags],
            cwd=root,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            yield Up(process, errors)
        finally:
            process.kill()
