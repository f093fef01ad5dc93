"""Child processes that are started again when they die, and stopped in order.

Owns processes, not their purpose: the command line comes from a function that is called at every start. The output of a
child, stdout and stderr alike, goes to our stderr line by line, unchanged. Each child leads a process group: when it
dies, its own children are killed too, so that none of them keeps a device.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from bus import retry
from bus.process import die_with_parent
from bus.telemetry.logging import logger

log = logger(__name__)

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 5.0
#: The delay starts from `FIRST_DELAY_S` again after a child has lived this long.
STEADY_S = 30.0
#: Exit code of argparse and typer for a usage error: a restart would not help.
USAGE_ERROR = 2
_MAX_LINE_BYTES = 1 << 20
#: Wait for the last lines of a dead child: a process outside its group may have inherited its output and keep it open.
_LAST_LINE_S = 1.0

Write = Callable[[bytes], object]


class LaunchError(Exception):
    """A child cannot be started now; the message says why."""


class Launch(msgspec.Struct, frozen=True):
    """How to start a child. `output` is a file descriptor that takes its output; None: our stderr, line by line."""

    argv: Sequence[str]
    output: int | None = None
    pass_fds: tuple[int, ...] = ()
    #: Signal that the kernel sends it if this process is killed.
    on_orphaned: signal.Signals = signal.SIGKILL


class Spec(msgspec.Struct, frozen=True):
    """A child to supervise."""

    name: str
    #: Called at every start. May raise LaunchError; then it is called again after the delay.
    launch: Callable[[], Launch]
    #: Between SIGTERM and SIGKILL.
    patience_s: float


def delay_s(deaths: int) -> float:
    """How long to wait before starting a child again that has died `deaths` times in a row, 1 or more."""
    return retry.delay_s(deaths - 1, FIRST_DELAY_S, MAX_DELAY_S, None)


class Child:
    """One supervised process. Made by `supervised`."""

    def __init__(self, spec: Spec, write: Write) -> None:
        self.spec = spec
        #: Set once the process has exited with a usage error.
        self.refused = asyncio.Event()
        self.starts = 0
        self._write = write
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Id of the process that runs now; None between two lives."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Start, watch and restart the process until `stop`. When cancelled it kills the process."""
        deaths, now = 0, asyncio.get_running_loop().time
        try:
            while not self._stopping.is_set():
                began = now()
                reason = await self._live()
                if self._stopping.is_set():
                    return
                deaths = 1 if now() - began >= STEADY_S else deaths + 1
                log.warning("child.exited", child=self.spec.name, again_in_s=delay_s(deaths), **reason)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_s(deaths)):
                        await self._stopping.wait()
        finally:
            self._ended.set()

    async def _live(self) -> dict[str, object]:
        """Run the process once; returns fields for the log that say how it ended."""
        try:
            launch = self.spec.launch()
        except LaunchError as error:
            return {"error": str(error)}
        async with _output(launch, self._write) as (out, started):
            process = await asyncio.create_subprocess_exec(*launch.argv, **_options(launch, out))
            started()
            self._process = process
            self.starts += 1
            log.info("child.started", child=self.spec.name, pid=process.pid)
            try:
                code = await self._until_ended(process)
            finally:
                self._process = None
                # Also when cancelled: the group holds the child itself and its children.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if code == USAGE_ERROR:
            self.refused.set()
        return {"pid": process.pid, "code": code}

    async def _until_ended(self, process: asyncio.subprocess.Process) -> int:
        """Wait for the exit code. On `stop` the child gets SIGTERM and, after its patience, SIGKILL."""
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(process.wait())
            stopping = group.create_task(self._stopping.wait())
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not ended.done():
                process.terminate()
                await asyncio.wait((ended,), timeout=self.spec.patience_s)
            if not ended.done():
                log.error("child.killed", child=self.spec.name, pid=process.pid, after_s=self.spec.patience_s)
                process.kill()
            code = await ended
        if self._stopping.is_set():
            log.info("child.stopped", child=self.spec.name, pid=process.pid, code=code)
        return code

    async def restart(self) -> None:
        """End the process that runs now as `stop` does; it is started again like one that died."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self.spec.patience_s):
                await process.wait()
        except TimeoutError:
            log.error("child.killed", child=self.spec.name, pid=process.pid, after_s=self.spec.patience_s)
            process.kill()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the child's patience; returns when it is gone. May be called again."""
        self._stopping.set()
        await self._ended.wait()


@asynccontextmanager
async def supervised(write: Write) -> AsyncIterator[Callable[[Spec], Child]]:
    """Yield a function that starts a supervised child. Leaving the block kills the children that were not stopped."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []

        def start(spec: Spec) -> Child:
            child = Child(spec, write)
            tasks.append(group.create_task(child.run(), name=f"child {spec.name}"))
            return child

        try:
            yield start
        finally:
            for task in tasks:
                task.cancel()


async def stop_all(children: Sequence[Child]) -> None:
    """Stop all of them at the same time."""
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(child.stop(), name=f"stop {child.spec.name}")


def _options(launch: Launch, out: int) -> dict[str, Any]:
    return {
        "stdin": asyncio.subprocess.DEVNULL,
        "stdout": out,
        "stderr": out,
        "pass_fds": launch.pass_fds,
        # Ctrl-C in a terminal reaches only this process, which stops the children in order.
        "start_new_session": True,
        "preexec_fn": partial(die_with_parent, os.getpid(), launch.on_orphaned),
    }


@asynccontextmanager
async def _output(launch: Launch, write: Write) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """Yield the descriptor for a child's output, and a function to call once the child has inherited it.

    Unless the child writes to a file, the descriptor is a pipe to `write`; leaving the block waits for the last line.
    The pipe is ours, not asyncio's: `Process.wait` would wait for every process that inherited it.
    """
    if launch.output is not None:
        yield launch.output, lambda: None
        return
    reading, writing = os.pipe()
    lines = _Lines(write)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: lines, os.fdopen(reading, "rb", 0))
    with contextlib.ExitStack() as ours:
        # The pipe reaches its end only after this process has closed it too.
        ours.callback(os.close, writing)
        try:
            yield writing, ours.close
        finally:
            ours.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_LINE_S):
                    await lines.ended.wait()
            transport.close()


class _Lines(asyncio.Protocol):
    """Passes whole lines on, so that lines of two children never mix. `ended` is set when the pipe has no writer."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rest = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if newline:
            self._write(lines + newline)
        if len(self._rest) > _MAX_LINE_BYTES:
            self._pass_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pass_rest()
        self.ended.set()

    def _pass_rest(self) -> None:
        if self._rest:
            self._write(self._rest + b"\n")
            self._rest = b""
