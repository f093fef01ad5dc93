"""The worker's side of the engine host: start it, talk to it, see it die or hang, start another one.

A dead host costs its jobs their engine, not their lives: each stream is interrupted, the one that was being stepped as
`Lost` (it may be what killed the host), all others as `HandBack`.
"""

import asyncio
import contextlib
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable

import msgspec

from bus import retry, wire
from bus.telemetry.logging import logger
from gpuworker import pipe
from gpuworker.crash import CrashReport, describe_exit
from gpuworker.settings import WorkerSettings
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.stream import HandBack, Lost, Stream

log = logger(__name__)

_BUFFER_BYTES = 1 << 20
_QUIT_S = 2.0
#: A timer that is so late tells that this whole process was stopped, or the machine was.
STOOD_STILL_S = 1.0
_FIRST_RESTART_S = 0.05
_LAST_RESTART_S = 5.0


class _Protocol(asyncio.Protocol):
    def __init__(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._received, self._lost = received, lost

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


class EngineHost:
    """One child at a time. `run` keeps it alive; `open` and `close` start and stop jobs in it."""

    def __init__(
        self, models: list[str], settings: WorkerSettings, changed: Callable[[], None], died: Callable[[], None]
    ) -> None:
        """`changed` is called when `is_up` or `loaded` may have changed, `died` when a host ended by itself or hung."""
        self._models, self._settings, self._changed, self._died = models, settings, changed, died
        self._stall_s = settings.stall_s
        self._streams: dict[int, Stream] = {}
        self._handles = 0
        self._transport: asyncio.Transport | None = None
        self._mark: pipe.StepMark | None = None
        self._process: asyncio.subprocess.Process | None = None
        #: When this process went on after it had stood still, the host most likely with it.
        self._excused_at = 0.0
        self.loaded: set[str] = set()
        self.unavailable: dict[str, str] = {}
        #: Device memory that the host holds; None: none is told.
        self.device_bytes: int | None = None
        self.settled = asyncio.Event()

    @property
    def is_loading(self) -> bool:
        """Whether a model is still to come. Until then jobs may stand still for as long as an import takes."""
        return len(self.loaded) + len(self.unavailable) < len(self._models)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep a host alive until cancelled; then it is told to quit, and killed if it does not."""
        num_restarts = 0
        while True:
            began = time.monotonic()
            await self._live()
            if time.monotonic() - began > 30.0:
                num_restarts = 0
            await asyncio.sleep(retry.delay_s(num_restarts, _FIRST_RESTART_S, _LAST_RESTART_S, None))
            num_restarts += 1

    async def _live(self) -> None:
        """One child, from its start to its death."""
        ours, theirs = socket.socketpair()
        memory, notes = os.memfd_create("antiphon-step"), CrashReport()
        try:
            for end in (ours, theirs):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            os.ftruncate(memory, pipe.StepMark.SIZE)
            self._mark = pipe.StepMark(mmap.mmap(memory, pipe.StepMark.SIZE))
            options = pipe.Options(
                fd=theirs.fileno(),
                mark_fd=memory,
                crash_fd=notes.fd,
                models=self._models,
                device=self._settings.device,
                allow_faults=self._settings.allow_faults,
                log_level=self._settings.log_level,
                log_format=self._settings.log_format,
                process=f"host of {self._settings.id}",
            )
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gpuworker.host.main",
                msgspec.json.encode(options).decode(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr,
                pass_fds=(theirs.fileno(), memory, notes.fd),
            )
        except BaseException:
            ours.close()
            notes.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        gone = asyncio.Event()
        reader = pipe.MessageReader(self._on_audio, self._on_control)
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: _Protocol(reader.feed, gone.set), sock=ours
        )
        self._transport = transport
        log.info("host.started", pid=process.pid, models=self._models)
        try:
            hung_at = await self._watch(process, gone, notes)
            self._died()
            await self._bury(process, transport, notes, hung_at)
        except asyncio.CancelledError:
            await self._bury(process, transport, notes, is_told=True)
            raise
        finally:
            notes.close()

    async def _watch(self, process: asyncio.subprocess.Process, gone: asyncio.Event, notes: CrashReport) -> str | None:
        """Return None when the child is dead, or where it hangs in one step for longer than `stall_s`."""
        assert self._mark is not None
        ended = asyncio.ensure_future(process.wait())
        pause_s = min(0.25, self._stall_s / 4)
        try:
            while not ended.done() and not gone.is_set():
                looked_at = time.monotonic()
                await asyncio.wait([ended], timeout=pause_s)
                if time.monotonic() - looked_at > pause_s + STOOD_STILL_S:
                    self._excused_at = time.monotonic()
                if self.step_s > self._stall_s:
                    traceback = await notes.request_traceback(process)
                    log.error("host.hung", pid=process.pid, stall_s=self._stall_s, traceback=traceback)
                    return traceback
            return None
        finally:
            ended.cancel()

    @property
    def step_s(self) -> float:
        """How long the host has been in the step that it is in; 0 between two steps."""
        if self._mark is None or self._transport is None:
            return 0.0
        handle, since_s = self._mark.read()
        return time.monotonic() - max(since_s, self._excused_at) if handle else 0.0

    async def _bury(
        self,
        process: asyncio.subprocess.Process,
        transport: asyncio.Transport,
        notes: CrashReport,
        hung_at: str | None = None,
        *,
        is_told: bool = False,
    ) -> None:
        """Give its jobs back, the innocent ones at once, and wait for its end.

        `hung_at`: it hung, and where. `is_told`: it ends because we want it to.
        """
        assert self._mark is not None
        culprit, _ = self._mark.read()
        streams = list(self._streams.values())
        self._transport = None
        self._streams.clear()
        self.loaded.clear()
        self.device_bytes = None
        self._changed()
        if not transport.is_closing():
            transport.write(pipe.encode_command(pipe.Quit()))
        transport.close()
        for stream in streams:
            if stream.handle != culprit:
                stream.interrupt(HandBack("its engine host died in another job"))
        try:
            await _end(process, at_once=bool(streams))
        finally:
            guilty = next((stream for stream in streams if stream.handle == culprit), None)
            if guilty is not None:
                how = describe_exit(process.returncode) if hung_at is None else f"hung for {self._stall_s:g} s"
                trace = hung_at or notes.read()
                guilty.interrupt(Lost(f"its engine host {how}", host_died=True, traceback=trace))
        if is_told and not streams and process.returncode == 0:
            log.info("host.stopped", pid=process.pid)
        else:
            log.warning("host.ended", pid=process.pid, code=process.returncode, jobs=len(streams))

    # Jobs

    @property
    def is_up(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _say(self, command: bytes) -> None:
        """Unless there is nobody to hear it: a host that has just died, which `_watch` is about to notice."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(command)

    def open(
        self, job: wire.Job, start_frame: int, attempt: int, checkpoint: bytes | None, entry_size: EntrySize
    ) -> Stream:
        """Start `job` in the host. Raises HandBack if there is no host just now, or it has not loaded the model."""
        if not self.is_up or job.model not in self.loaded:
            raise HandBack(f"the engine host has no {job.model} now")
        self._handles += 1
        stream = self._streams[self._handles] = Stream(self._handles, entry_size, self._credit)
        start = pipe.Start(
            handle=stream.handle,
            request=wire.engine_request(job),
            start_frame=start_frame,
            attempt=attempt,
            checkpoint=checkpoint,
        )
        self._say(pipe.encode_command(start))
        return stream

    def close(self, stream: Stream) -> None:
        """Stop the job in the host, if it still runs there. Idempotent."""
        if self._streams.pop(stream.handle, None) is not None:
            self._say(pipe.encode_command(pipe.Stop(stream.handle)))

    def _credit(self, handle: int, num_bytes: int) -> None:
        if handle in self._streams:
            self._say(pipe.encode_command(pipe.Credit(handle, num_bytes)))

    def _on_audio(self, handle: int, first_frame: int, pcm: bytes, marks: pipe.Marks) -> None:
        stream = self._streams.get(handle)
        if stream is not None:
            stream.on_audio(first_frame, pcm, marks)

    def _on_control(self, handle: int, word: pipe.ControlMessage) -> None:
        if handle:
            stream = self._streams.get(handle)
            if stream is not None:
                stream.on_control(word)
            return
        match word:
            case pipe.Loaded(model=model, took_s=took_s):
                self.loaded.add(model)
                self.unavailable.pop(model, None)
                log.info("model.loaded", model=model, took_s=round(took_s, 3))
            case pipe.Unavailable(model=model, reason=reason):
                self.unavailable[model] = reason
                log.error("model.unavailable", model=model, reason=reason)
            case pipe.DeviceMemoryReport(num_bytes=num_bytes):
                self.device_bytes = num_bytes
                return  # the next heartbeat is soon enough
        if not self.is_loading:
            self.settled.set()
        self._changed()


async def _end(process: asyncio.subprocess.Process, *, at_once: bool) -> None:
    """Wait for the end of a host that was told to quit; kill it at once, or when it does not obey."""
    with contextlib.suppress(ProcessLookupError):
        if at_once:
            process.kill()
        try:
            async with asyncio.timeout(_QUIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
