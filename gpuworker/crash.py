"""Left behind by an engine host that dies or hangs: its traceback, and the job that it was stepping.

Both are in memory that outlives the process.
"""

import asyncio
import contextlib
import faulthandler
import os
import signal
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

#: Limit of a stored traceback: faulthandler writes the innermost frames first.
MAX_TRACE_BYTES: Final = 4096
_DUMP_SIGNAL = signal.SIGUSR1
_DUMP_TIMEOUT_S = 1.0
#: A traceback that has not grown for this long is complete: faulthandler writes it frame by frame.
_DUMP_STILL_S = 0.02


class CrashReport:
    """The worker's end of the traceback, which the host's faulthandler writes.

    One per host process; `close` it after the process has ended.
    """

    def __init__(self) -> None:
        self.fd = os.memfd_create("antiphon-crash")

    def read(self) -> str:
        """The traceback written so far; empty for a host that was killed or exited by itself."""
        return os.pread(self.fd, MAX_TRACE_BYTES, 0).decode(errors="replace").strip()

    async def request_traceback(self, process: asyncio.subprocess.Process) -> str:
        """Where a hanging host stands; empty after 1 s without an answer (a stopped process, a hanging kernel)."""
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_DUMP_SIGNAL)
        deadline, found = time.monotonic() + _DUMP_TIMEOUT_S, ""
        while time.monotonic() < deadline:
            await asyncio.sleep(_DUMP_STILL_S)
            before, found = found, self.read()
            if found and found == before:
                break
        return found

    def close(self) -> None:
        """Free the memory."""
        os.close(self.fd)


class StepMark:
    """16 bytes of memory shared by both processes: which job the host is stepping, and since when.

    When a host dies or hangs, this names the job that was being stepped; the others on the host are not to blame.
    """

    SIZE: Final = 16
    _FORM: Final = struct.Struct("<Qd")

    def __init__(self, memory: Any) -> None:
        """`memory`: a writable buffer of `SIZE` bytes."""
        #: `enter(handle, now_s)`: a step of job `handle` begins at `now_s`, CLOCK_MONOTONIC seconds.
        self.enter: Callable[[int, float], None] = partial(self._FORM.pack_into, memory, 0)
        #: `leave()`: the step has ended.
        self.leave: Callable[[], None] = partial(self.enter, 0, 0.0)
        #: `read()`: (handle, CLOCK_MONOTONIC seconds when its step began); the handle is 0 between two steps.
        self.read: Callable[[], tuple[int, float]] = partial(self._FORM.unpack_from, memory, 0)


def install_crash_handler(fd: int) -> None:
    """In the host: write the running thread's traceback to `fd` on a fatal signal and on the worker's request."""
    faulthandler.enable(file=fd, all_threads=False)
    faulthandler.register(_DUMP_SIGNAL, file=fd, all_threads=False)


def describe_exit(code: int | None) -> str:
    """How a process ended, in words, by its return code; None: it is still running."""
    if code is None:
        return "does not end"
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
