"""The engine host: the process that owns the device. `python -m gpuworker.host.main <options as JSON>`.

One thread steps engines and reads commands between two steps; it may be killed at any time. A second thread only loads
models, so that a heavy import does not keep a small model from speaking. It knows nothing of NATS.
"""

import contextlib
import mmap
import queue
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Hashable
from typing import Final

import msgspec

from bus.errors import Invalid
from bus.params import check
from bus.process import die_with_parent
from bus.telemetry.logging import configure, logger
from gpuworker import pipe, registry
from gpuworker.crash import install_crash_handler
from gpuworker.engine import Engine, MemoryPolicy, OutOfMemory, Rejected
from gpuworker.host.device_memory import Scale
from gpuworker.host.group import Group, Member, engine_job
from gpuworker.host.schedule import Schedule

log = logger(__name__)

#: Blocks that are not a stream's first may wait this long, or for this many bytes, to leave in one system call.
_GATHER_S: Final = 0.001
_GATHER_BYTES: Final = 64 << 10
#: Jobs with equal keys that come within this time share a batch.
_BATCH_S: Final = 0.004


class Host:
    def __init__(self, options: pipe.Options) -> None:
        self._options = options
        self._socket = socket.socket(fileno=options.fd)
        self._mark = pipe.StepMark(mmap.mmap(options.mark_fd, pipe.StepMark.SIZE))
        self._commands = pipe.CommandReader()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._out_since = 0.0
        self._engines: dict[str, Engine] = {}
        self._loaded: queue.SimpleQueue[tuple[str, Engine | None, str, float]] = queue.SimpleQueue()
        self._schedule: Schedule[Group] = Schedule()
        self._groups: dict[int, tuple[Group, Member]] = {}
        #: Full windows: groups that wait for credit.
        self._waiting: set[Group] = set()
        self._batches: dict[Hashable, tuple[float, Engine, list[Member]]] = {}
        self._scale = Scale(
            lambda num_bytes: self._send(pipe.encode_control(0, pipe.DeviceMemoryReport(num_bytes)), urgent=False)
        )
        self._quit = False

    def run(self) -> None:
        """Until told to quit, or the worker is gone."""
        loader = threading.Thread(target=self._load_all, name="loader", daemon=True)
        loader.start()
        while not self._quit:
            self._listen()
            now = time.monotonic()
            self._form_batches(now)
            group = self._schedule.pop(now)
            if group is not None:
                self._step(group, now)
                self._scale.stepped(now)
            self._scale.weigh(now)
            if self._out and (group is None or self._out_bytes > _GATHER_BYTES or now - self._out_since > _GATHER_S):
                self._flush()

    # Models

    def _load_all(self) -> None:
        for name in self._options.models:
            began = time.monotonic()
            try:
                engine = registry.make(name, allow_faults=self._options.allow_faults)
                engine.load(self._options.device, MemoryPolicy())
                engine.warm_up()
            except Exception as error:  # noqa: BLE001  # whatever a model's library raises, it is this model's affair
                self._loaded.put((name, None, f"{type(error).__name__}: {error}", 0.0))
            else:
                self._loaded.put((name, engine, "", time.monotonic() - began))

    def _take_loaded(self) -> None:
        while not self._loaded.empty():
            name, engine, reason, took_s = self._loaded.get()
            if engine is None:
                self._send(pipe.encode_control(0, pipe.Unavailable(name, reason)), urgent=True)
            else:
                self._engines[name] = engine
                self._send(pipe.encode_control(0, pipe.Loaded(name, took_s)), urgent=True)
                self._scale.loaded(engine, time.monotonic())

    # Talking

    def _listen(self) -> None:
        """Read commands; wait for one only while nothing is runnable."""
        self._take_loaded()
        now = time.monotonic()
        waits = [self._schedule.wait_s(now), self._scale.wait_s(now), _BATCH_S if self._batches else None]
        wait_s = min((each for each in waits if each is not None), default=None)
        if wait_s != 0.0:
            self._flush()
        if len(self._engines) < len(self._options.models):
            wait_s = min(0.02, wait_s if wait_s is not None else 0.02)  # the loader cannot wake a select
        if not select.select([self._socket], [], [], wait_s)[0]:
            return
        try:
            data = self._socket.recv(1 << 18)
        except ConnectionResetError:  # the worker was killed with words of ours unread
            data = b""
        if not data:
            self._quit = True
        for command in self._commands.feed(data):
            self._obey(command)

    def _send(self, data: bytes, urgent: bool) -> None:
        if not self._out:
            self._out_since = time.monotonic()
        self._out.append(data)
        self._out_bytes += len(data)
        if urgent:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            data, self._out, self._out_bytes = b"".join(self._out), [], 0
            try:
                self._socket.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                self._quit = True  # the worker is gone, and with it every lease

    def _obey(self, command: pipe.Command) -> None:
        match command:
            case pipe.Start():
                self._start(command)
            case pipe.Stop(handle=handle):
                self._stop(handle)
            case pipe.Credit(handle=handle, num_bytes=num_bytes):
                self._credit(handle, num_bytes)
            case pipe.Quit():
                self._quit = True

    # Jobs

    def _start(self, start: pipe.Start) -> None:
        engine = self._engines.get(start.request.model)
        job = engine_job(start)
        try:
            if engine is None:
                raise Rejected("model", f"{start.request.model!r} is not loaded here")
            check(dict(engine.capabilities().param_schema), start.request.params)
            job = engine.validate(job)
            key = engine.batch_key(job)
        except (Rejected, Invalid) as error:
            path = error.path
            message = error.message if isinstance(error, Rejected) else str(error)
            self._send(pipe.encode_control(start.handle, pipe.Failed("invalid", message, path)), urgent=True)
            return
        except Exception as error:  # noqa: BLE001  # an engine's validate is foreign code: it fails this job only
            self._send(pipe.encode_control(start.handle, _broken(error)), urgent=True)
            return
        now = time.monotonic()
        member = Member(start.handle, job, now)
        if key is None:
            self._enter(Group(engine, [member], self._send))
        else:
            _, _, members = self._batches.setdefault((start.request.model, key), (now + _BATCH_S, engine, []))
            members.append(member)
            if len(members) >= engine.capabilities().max_batch:
                self._form((start.request.model, key))

    def _form_batches(self, now: float) -> None:
        for key in [key for key, (due, _, _) in self._batches.items() if due <= now]:
            self._form(key)

    def _form(self, key: Hashable) -> None:
        _, engine, members = self._batches.pop(key)
        members = [member for member in members if not member.cancelled]
        if members:
            self._enter(Group(engine, members, self._send))

    def _enter(self, group: Group) -> None:
        for member in group.members:
            self._groups[member.handle] = (group, member)
        self._schedule.ready(group, group.dry_at)

    def _stop(self, handle: int) -> None:
        found = self._groups.get(handle)
        if found is None:
            for _, _, members in self._batches.values():
                for member in members:
                    member.cancelled = member.cancelled or member.handle == handle
            return
        group, member = found
        group.cancel(member)
        if group.over:
            self._leave(group)
        else:
            self._resume(group)  # its full window may have been what the others waited for

    def _credit(self, handle: int, num_bytes: int) -> None:
        found = self._groups.get(handle)
        if found is not None:
            found[1].outstanding_bytes -= num_bytes
            self._resume(found[0])

    def _resume(self, group: Group) -> None:
        if group in self._waiting and not group.is_full:
            self._waiting.discard(group)
            self._schedule.ready(group, group.dry_at)

    def _step(self, group: Group, now: float) -> None:
        self._mark.enter(group.members[0].handle, now)
        pause_s = 0.0
        try:
            pause_s = group.step(now)
        except OutOfMemory as error:
            self._out_of_memory(group, error)
            return
        except Rejected as error:
            self._fail(group, pipe.Failed("invalid", error.message, error.path))
        except Exception as error:  # noqa: BLE001  # the model broke; that is these jobs' outcome and nobody else's
            self._fail(group, _broken(error))
        finally:
            self._mark.leave()
        if group.over:
            self._leave(group)
        elif group.is_full:
            self._waiting.add(group)
        elif pause_s > 0:
            self._schedule.pause(group, now + pause_s, group.dry_at)
        else:
            self._schedule.ready(group, group.dry_at)

    def _fail(self, group: Group, broken: pipe.Failed) -> None:
        for member in group.members:
            if not member.over:
                group.fail(member, broken.code, broken.message, broken.path, broken.traceback)

    def _out_of_memory(self, group: Group, error: OutOfMemory) -> None:
        """Half the batch, twice; a job that does not fit alone has failed."""
        left = [member for member in group.members if not member.over]
        if len(left) < 2:
            self._fail(group, pipe.Failed("out_of_memory", f"{group.engine.capabilities().name}: {error}"))
            self._leave(group)
            return
        log.warning("engine.out_of_memory", model=group.engine.capabilities().name, batch=len(left), error=str(error))
        halves = group.halves()
        self._leave(group)
        for half in halves:
            self._enter(half)

    def _leave(self, group: Group) -> None:
        self._schedule.drop(group)
        self._waiting.discard(group)
        for member in group.members:
            self._groups.pop(member.handle, None)
        try:
            group.close()
        except Exception:  # clean-up of foreign code; its jobs are settled already
            log.exception("engine.close_failed", model=group.engine.capabilities().name)


def _broken(error: Exception) -> pipe.Failed:
    trace = "".join(traceback.format_exception(error))
    return pipe.Failed("engine_failed", f"{type(error).__name__}: {error}", "", trace[-8000:])


def main() -> None:
    """Run the engine host until the worker ends it."""
    die_with_parent()  # also a host that hangs in a kernel must free the device when its worker is killed
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the worker decides when its host ends
    options = msgspec.json.decode(sys.argv[1], type=pipe.Options)
    install_crash_handler(options.crash_fd)
    configure(options.process, level=options.log_level, form=options.log_format)
    with contextlib.suppress(KeyboardInterrupt):  # ^C reaches the whole process group; the worker drains and quits us
        Host(options).run()


if __name__ == "__main__":
    main()
