"""The engine host: the process that owns the device. `python -m gpuworker.host.main <options as JSON>`.

One thread steps engines and reads commands between two steps; it may be killed at any time. A second thread loads
models. It has no connection to NATS.
"""

import contextlib
import mmap
import select
import signal
import socket
import sys
import time
from typing import Final

import msgspec

from bus import wire
from bus.process import die_with_parent
from bus.telemetry.logging import configure
from gpuworker import pipe
from gpuworker.admission import admit
from gpuworker.crash import StepMark, install_crash_handler
from gpuworker.engine import AttemptFailed, Engine, Rejected
from gpuworker.host import batcher, models
from gpuworker.host.batcher import Batcher
from gpuworker.host.device_memory import DeviceMemory
from gpuworker.host.failures import failure
from gpuworker.host.group import Group, Member, engine_job
from gpuworker.host.models import Models
from gpuworker.host.readiness import Readiness
from gpuworker.host.runner import Runner
from gpuworker.host.schedule import Schedule
from gpuworker.host.script import ScriptReader
from gpuworker.host_options import HostOptions
from gpuworker.watermark import Watermark

_RECEIVE_BYTES: Final = 1 << 18


class Host:
    """Obeys the worker's commands and keeps the device busy in between."""

    def __init__(self, options: HostOptions) -> None:
        self._socket = socket.socket(fileno=options.fd)
        self._commands = pipe.CommandReader()
        self._outbox = pipe.Outbox(self._socket)
        self._memory = DeviceMemory(self._report_memory)
        self._readiness = Readiness(self._outbox)
        self._models = Models(options, self._outbox, self._memory, self._readiness)
        self._schedule: Schedule[Group] = Schedule()
        self._batcher = Batcher(self._outbox.send)
        mark = StepMark(mmap.mmap(options.mark_fd, StepMark.SIZE))
        self._runner = Runner(self._schedule, self._batcher, mark)
        #: Growing checkpoints of jobs that are about to be started, by handle.
        self._increments: dict[int, list[bytes]] = {}
        self._quit = False

    def run(self) -> None:
        """Return when the worker commands it, or is gone. The socket to it is then closed."""
        with self._socket:
            self._run()

    def _run(self) -> None:
        self._models.start()
        while not (self._quit or self._outbox.is_closed):
            self._receive()
            now = time.monotonic()
            if self._batcher.is_gathering:
                for group in self._batcher.form_due(now):
                    self._runner.enter(group)
            has_stepped = self._runner.step(now)
            if self._memory.is_in_use:
                if has_stepped:
                    self._memory.stepped(now)
                self._memory.poll(now)
            if self._readiness.is_in_use:
                self._readiness.poll(now)
            if now > self._outbox.due_at or (self._outbox.num_bytes and not has_stepped):
                self._outbox.flush()

    def _receive(self) -> None:
        """Obey the commands that have arrived; wait for one only while nothing is runnable."""
        if self._models.is_loading:
            self._models.take_loaded()
        wait_s: float | None = 0.0
        if not self._runner.is_runnable:
            now = time.monotonic()
            wait_s = self._schedule.wait_s(now)
            if wait_s != 0.0:
                if self._outbox.num_bytes:
                    self._outbox.flush()
                wait_s = self._idle_s(wait_s, now)
        if not select.select([self._socket], [], [], wait_s)[0]:
            return
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except ConnectionResetError:  # the worker was killed before it had read all that we sent
            data = b""
        if not data:
            self._quit = True
        for command in self._commands.feed(data):
            self._obey(command)

    def _idle_s(self, runnable_in_s: float | None, now: float) -> float | None:
        """Seconds until something is due besides commands; None: nothing is."""
        waits = [
            runnable_in_s,
            self._memory.wait_s(now) if self._memory.is_in_use else None,
            self._readiness.wait_s(now) if self._readiness.is_in_use else None,
            batcher.GATHER_S if self._batcher.is_gathering else None,
            models.POLL_S if self._models.is_loading else None,
        ]
        return min((each for each in waits if each is not None), default=None)

    def _obey(self, command: pipe.Command) -> None:
        match command:
            case pipe.Start():
                self._start(command)
            case pipe.Increment(handle=handle, data=data):
                self._increments.setdefault(handle, []).append(data)
            case pipe.Stop(handle=handle):
                if not self._runner.cancel(handle):
                    self._batcher.cancel(handle)
            case pipe.Credit(handle=handle, num_bytes=num_bytes):
                self._runner.add_credit(handle, num_bytes)
            case pipe.Quit():
                self._quit = True

    def _start(self, start: pipe.Start) -> None:
        """Run a job, or report why the engine refuses it."""
        increments = self._increments.pop(start.handle, ())
        try:
            engine = self._models.engines.get(start.request.model)
            if engine is None:
                raise Rejected("model", f"{start.request.model!r} is not loaded here")
            if start.request.script:
                engine = ScriptReader(engine)
            job = admit(engine, engine_job(start, increments))
            member = Member(start.handle, job, time.monotonic(), self._watermark(start.request))
            group = self._form(engine, member)
        except Exception as error:  # noqa: BLE001  # an engine is foreign code: its failure ends this job only
            self._outbox.send(pipe.encode_control(start.handle, failure(error)), urgent=True)
            return
        if group is not None:
            self._runner.enter(group)

    def _watermark(self, request: wire.EngineRequest) -> Watermark | None:
        """The watermark of a job whose marking is `inaudible`. Raises AttemptFailed if this worker has none."""
        if request.marking != "inaudible":
            return None
        if self._models.watermark is None:
            raise AttemptFailed(
                "the audio has to be marked `inaudible`, and this worker has no watermark", is_fault=False
            )
        return self._models.watermark

    def _form(self, engine: Engine, member: Member) -> Group | None:
        """The group that a job, which has been validated, completes; None while it waits for others.

        A job without a batch key never shares a forward: it is a group of its own. Raises any exception of `batch_key`.
        """
        key = engine.batch_key(member.job)
        if key is None:
            return Group(engine, [member], self._outbox.send)
        return self._batcher.add(engine, key, member, member.arrived_at)

    def _report_memory(self, num_bytes: int | None) -> None:
        self._outbox.send(pipe.encode_control(0, pipe.DeviceMemoryReport(num_bytes)), urgent=False)


def main() -> None:
    """Run a host with the options of the command line, until the worker ends it."""
    # A worker that is killed takes its host along, even one that hangs in a kernel: the device must become free.
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the worker decides when its host ends
    options = msgspec.json.decode(sys.argv[1], type=HostOptions)
    install_crash_handler(options.crash_fd)
    configure(options.process, level=options.log_level, form=options.log_format)
    with contextlib.suppress(KeyboardInterrupt):  # ^C reaches the whole process group; the worker drains and quits us
        Host(options).run()


if __name__ == "__main__":
    main()
