"""One engine host process as its worker sees it: the socket to it, its step mark, its crash report, its end."""

import asyncio
import contextlib
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, cast

import msgspec

from bus.telemetry.logging import logger
from gpuworker import pipe
from gpuworker.crash import CrashReport, StepMark, describe_exit
from gpuworker.host_options import HostOptions
from gpuworker.settings import WorkerSettings

log = logger(__name__)

_BUFFER_BYTES: Final = 1 << 20
_QUIT_TIMEOUT_S: Final = 2.0
_CHECK_S: Final = 0.25
#: A timer that fires this late means that this whole process was stopped, or the machine was.
STOOD_STILL_S: Final = 1.0


class HostChannel(asyncio.Protocol):
    """The worker's end of the socket pair."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        """`receive` is called with bytes as they arrive, in pieces of any size."""
        # asyncio calls it with the bytes: there is nothing to do for this class in between.
        self.data_received = receive  # type: ignore[assignment]
        self._transport: asyncio.Transport | None = None
        #: False as soon as one end is closed, which may be before the process is known to be dead.
        self.is_open = False
        #: Set once the host has closed its end, or `close` was called.
        self.closed = asyncio.Event()

    @classmethod
    async def connect(cls, end: socket.socket, receive: Callable[[bytes], None]) -> "HostChannel":
        """A channel over `end`, which it owns from then on."""
        _, channel = await asyncio.get_running_loop().create_connection(lambda: cls(receive), sock=end)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by type
        self.is_open = True

    def eof_received(self) -> None:
        """Called by asyncio, which then closes the transport."""
        self.is_open = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.is_open = False
        self.closed.set()

    def send(self, data: bytes) -> None:
        """Send `data`, or drop it if the channel is closed: on uvloop a write to a closed transport would raise."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close after sending the buffered commands. Idempotent."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()


class HostProcess:
    """A running engine host. `wait`, then `end`, then `close` it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: HostChannel,
        step_mark: StepMark,
        crash_report: CrashReport,
        stall_s: float,
    ) -> None:
        """Use `start`."""
        self.channel = channel
        #: Its process id; the process may have ended.
        self.pid = process.pid
        self._process = process
        self._step_mark = step_mark
        self._crash_report = crash_report
        self._stall_s = stall_s
        self._hang_traceback: str | None = None
        #: Monotonic seconds when this process resumed after it had stood still, most likely together with the host.
        self._resumed_at = 0.0

    @classmethod
    async def start(
        cls, models: list[str], settings: WorkerSettings, receive: Callable[[bytes], None]
    ) -> "HostProcess":
        """Start a host that loads `models`. Raises OSError. Cancelling leaves no process and no descriptor behind."""
        ours, theirs = socket.socketpair()
        mark_fd = os.memfd_create("antiphon-step")
        crash_report = CrashReport()
        with contextlib.ExitStack() as own, contextlib.ExitStack() as inherited:
            own.callback(ours.close)
            own.callback(crash_report.close)
            inherited.callback(theirs.close)
            inherited.callback(os.close, mark_fd)
            for end in (ours, theirs):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            os.ftruncate(mark_fd, StepMark.SIZE)
            step_mark = StepMark(mmap.mmap(mark_fd, StepMark.SIZE))
            channel = await HostChannel.connect(ours, receive)
            own.callback(channel.close)
            served = {name: settings.engine_of(name) for name in models}
            process = await _spawn(
                HostOptions(
                    fd=theirs.fileno(),
                    mark_fd=mark_fd,
                    crash_fd=crash_report.fd,
                    models=models,
                    device=settings.device,
                    engines={name: engine for name, (engine, _) in served.items()},
                    engine_options={name: options for name, (_, options) in served.items()},
                    allow_faults=settings.allow_faults,
                    log_level=settings.log_level,
                    log_format=settings.log_format,
                    process=f"host of {settings.id}",
                )
            )
            own.pop_all()  # nothing failed: they live as long as the process
        return cls(process, channel, step_mark, crash_report, settings.stall_s)

    @property
    def returncode(self) -> int | None:
        """As `asyncio.subprocess.Process.returncode`."""
        return self._process.returncode

    @property
    def stepping(self) -> int:
        """Handle of the job in whose step the host is, or died; 0 between two steps."""
        return self._step_mark.read()[0]

    @property
    def step_s(self) -> float:
        """Seconds since the host entered the step that it is in; 0 between two steps."""
        handle, since_s = self._step_mark.read()
        return time.monotonic() - max(since_s, self._resumed_at) if handle else 0.0

    async def wait(self) -> None:
        """Return when the process has ended, has closed its channel, or is in one step for longer than `stall_s`."""
        ended = asyncio.ensure_future(self._process.wait())
        pause_s = min(_CHECK_S, self._stall_s / 4)
        try:
            while not ended.done() and not self.channel.closed.is_set():
                checked_at = time.monotonic()
                await asyncio.wait([ended], timeout=pause_s)
                if time.monotonic() - checked_at > pause_s + STOOD_STILL_S:
                    self._resumed_at = time.monotonic()
                if self.step_s > self._stall_s:
                    self._hang_traceback = await self._crash_report.request_traceback(self._process)
                    log.error("host.hung", pid=self.pid, stall_s=self._stall_s, traceback=self._hang_traceback)
                    return
        finally:
            ended.cancel()

    def quit(self) -> None:
        """Send Quit and close the channel; the process ends by itself unless it hangs."""
        self.channel.send(pipe.encode_command(pipe.Quit()))
        self.channel.close()

    async def end(self, *, at_once: bool) -> None:
        """Wait for the process to end; kill it at once, or 2 s after `quit`."""
        with contextlib.suppress(ProcessLookupError):
            if at_once:
                self._process.kill()
            try:
                async with asyncio.timeout(_QUIT_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def death(self) -> tuple[str, str]:
        """(how the process ended or that it hung, in words; the traceback, or an empty string)."""
        if self._hang_traceback is not None:
            return f"hung for {self._stall_s:g} s", self._hang_traceback or self._crash_report.read()
        return describe_exit(self._process.returncode), self._crash_report.read()

    def close(self) -> None:
        """Free the crash report."""
        self._crash_report.close()


async def _spawn(options: HostOptions) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gpuworker.host.main",
        msgspec.json.encode(options).decode(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=(options.fd, options.mark_fd, options.crash_fd),
    )
