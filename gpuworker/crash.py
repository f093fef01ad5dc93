"""What an engine host was doing when it died or hung: its faulthandler writes it to memory that outlives it."""

import asyncio
import contextlib
import faulthandler
import os
import signal
import time
from typing import Final

#: Of a traceback that is kept: the innermost frames come first.
MAX_TRACE_BYTES: Final = 4096
_ASKED = signal.SIGUSR1
_ANSWER_S = 0.2


class CrashNotes:
    """The worker's end. One per host; `close` it after the host's death."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("antiphon-crash")

    def read(self) -> str:
        """What was written so far; empty for a host that was killed or left by itself."""
        return os.pread(self.fd, MAX_TRACE_BYTES, 0).decode(errors="replace").strip()

    async def ask(self, process: asyncio.subprocess.Process) -> str:
        """Where a host that hangs is; empty if it does not answer (a stopped process, a kernel that hangs)."""
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_ASKED)
        deadline = time.monotonic() + _ANSWER_S
        while not (told := self.read()) and time.monotonic() < deadline:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.005)
        return told

    def close(self) -> None:
        os.close(self.fd)


def take_notes(fd: int) -> None:
    """In the host: write the running thread's traceback to `fd` on a fatal signal, and when the worker asks."""
    faulthandler.enable(file=fd, all_threads=False)
    faulthandler.register(_ASKED, file=fd, all_threads=False)


def manner(code: int | None) -> str:
    """How a process ended, in words, by its return code."""
    if code is None:
        return "does not end"
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
