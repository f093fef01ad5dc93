"""A stack of a benchmark's own: `antiphon up` on free ports, with a store in a folder that the caller removes."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from ops.errors import OpsError
from ops.local.system import ourselves

#: A stack that has not printed its line after this many seconds is ended, and its start fails.
_START_S: Final = 120.0
#: After SIGTERM a process has this many seconds, then it is killed.
_STOP_S: Final = 20.0
#: Characters of a log in an error.
_LOG_CHARS: Final = 2000


class OwnStack(NamedTuple):
    """A stack that serves."""

    #: URL of its gateway.
    http: str
    #: URL of its nats-server.
    nats: str
    #: Process id of `antiphon up`.
    pid: int


@contextmanager
def own_stack(folder: Path, flags: Sequence[str], environ: Mapping[str, str] | None = None) -> Iterator[OwnStack]:
    """Run `antiphon up` with `flags` for the length of the block, with its log and its store in `folder`.

    `environ` is added to this process's. Raises OpsError, with the end of the log, if it is not ready in 120 s.
    """
    ports = ("--http-port", "0", "--nats-port", "0", "--json", "--state", str(folder / "state"))
    log = folder / "up.log"
    with own_process(
        [*ourselves(), "up", *ports, *flags], log, {"ANTIPHON_LOG_LEVEL": "warning", **(environ or {})}
    ) as up:
        line = line_within(up, _START_S)
        if not line:
            raise OpsError(f"the stack did not start:\n{log.read_text()[-_LOG_CHARS:]}")
        ready = json.loads(line)
        yield OwnStack(ready["http"], ready["nats"], up.pid)


@contextmanager
def own_process(
    argv: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run a program for the length of the block, its stderr into `log`; SIGTERM at the end, SIGKILL 20 s later."""
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **(environ or {})}
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def line_within(process: "subprocess.Popen[str]", seconds: float) -> str:
    """The next line of its stdout; empty if it ends first. A process that prints none in `seconds` is killed."""
    assert process.stdout is not None
    too_late = threading.Timer(seconds, process.kill)
    too_late.start()
    try:
        return process.stdout.readline()
    finally:
        too_late.cancel()
