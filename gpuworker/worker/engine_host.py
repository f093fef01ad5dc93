"""The worker's handle of its engine host: keeps one running, starts and stops jobs in it, restarts it when it dies.

If the host dies or hangs, its jobs are released for another worker. Only the job that was being stepped, which may have
caused it, is charged an attempt (`EngineLost`); the others are handed back (`HandBack`).
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from bus import retry, wire
from bus.jobs.claim import Claim
from bus.telemetry.logging import logger
from bus.voices import REFERENCE
from gpuworker import pipe
from gpuworker.settings import WorkerSettings
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.host_process import HostProcess
from gpuworker.worker.run_files import RunFiles
from gpuworker.worker.stream import EngineLost, HandBack, Stream

log = logger(__name__)

_FIRST_RESTART_S: Final = 0.05
_LAST_RESTART_S: Final = 5.0
#: A host that ran for this long is restarted as quickly as the first time.
_STABLE_S: Final = 30.0


class HostModels:
    """Models of the engine host, as it reports them."""

    def __init__(self, names: list[str]) -> None:
        """`names`: the models that every host is started with."""
        self._names = names
        self.loaded: set[str] = set()
        #: Reason by model.
        self.unavailable: dict[str, str] = {}
        #: Reason by model that is loaded, but whose server is down or still loading.
        self.unready: dict[str, str] = {}
        #: Device memory that the host holds; None: no engine can measure it.
        self.device_bytes: int | None = None
        #: Set once each model has loaded, or failed to, for the first time.
        self.settled = asyncio.Event()

    @property
    def is_loading(self) -> bool:
        """Whether a model is still to come, or its server to come back."""
        return len(self.loaded) + len(self.unavailable) < len(self._names)

    def update(self, message: pipe.ControlMessage) -> bool:
        """Take a report of the host; whether the set of loaded models may have changed."""
        match message:
            case pipe.Loaded(model=model, took_s=took_s):
                self.loaded.add(model)
                self.unavailable.pop(model, None)
                self.unready.pop(model, None)
                log.info("model.loaded", model=model, took_s=round(took_s, 3))
            case pipe.Unready(model=model, reason=reason):
                self.loaded.discard(model)
                self.unready[model] = reason
                log.warning("model.unready", model=model, reason=reason)
            case pipe.Unavailable(model=model, reason=reason):
                self.unavailable[model] = reason
                log.error("model.unavailable", model=model, reason=reason)
            case pipe.DeviceMemoryReport(num_bytes=num_bytes):
                self.device_bytes = num_bytes
                return False  # the next heartbeat reports it soon enough
        if not self.is_loading:
            self.settled.set()
        return True

    def clear(self) -> None:
        """The host has ended: nothing is loaded."""
        self.loaded.clear()
        self.unready.clear()
        self.device_bytes = None


class EngineHost:
    """One process at a time. `run` keeps it alive; `open` and `close` start and stop jobs in it."""

    def __init__(
        self,
        models: list[str],
        settings: WorkerSettings,
        files: RunFiles,
        on_change: Callable[[], None],
        on_death: Callable[[], None],
    ) -> None:
        """`on_change`: `is_up` or the loaded models may have changed. `on_death`: a host ended by itself or hung."""
        self.models = HostModels(models)
        self._names = models
        self._settings = settings
        self._files = files
        self._on_change = on_change
        self._on_death = on_death
        self._process: HostProcess | None = None
        self._streams: dict[int, Stream] = {}
        self._last_handle = 0

    # The process

    async def run(self) -> None:
        """Keep a host alive until cancelled; then send it Quit, and kill it if it still runs after 2 s."""
        num_restarts = 0
        while True:
            started_at = time.monotonic()
            await self._run_once()
            if time.monotonic() - started_at > _STABLE_S:
                num_restarts = 0
            await asyncio.sleep(retry.delay_s(num_restarts, _FIRST_RESTART_S, _LAST_RESTART_S, None))
            num_restarts += 1

    async def _run_once(self) -> None:
        """One host process, from its start to its end."""
        reader = pipe.MessageReader(self._streams, self._on_host_message)
        process = await HostProcess.start(self._names, self._settings, reader.feed)
        self._process = process
        log.info("host.started", pid=process.pid, models=self._names)
        try:
            await process.wait()
            self._on_death()
            await self._end(process)
        except asyncio.CancelledError:
            await self._end(process, is_requested=True)
            raise
        finally:
            process.close()

    async def _end(self, process: HostProcess, *, is_requested: bool = False) -> None:
        """Interrupt the streams, hand back at once those not at fault, and wait for the process to end."""
        culprit = process.stepping
        streams = list(self._streams.values())
        self._process = None
        self._streams.clear()
        self.models.clear()
        self._on_change()
        process.quit()
        for stream in streams:
            if stream.handle != culprit:
                stream.interrupt(HandBack("its engine host died in another job"))
        try:
            await process.end(at_once=bool(streams))
        finally:
            how, traceback = process.death()
            for stream in streams:
                if stream.handle == culprit:
                    stream.interrupt(EngineLost(f"its engine host {how}", host_died=True, traceback=traceback))
        if is_requested and not streams and process.returncode == 0:
            log.info("host.stopped", pid=process.pid)
        else:
            log.warning("host.ended", pid=process.pid, code=process.returncode, jobs=len(streams))

    @property
    def is_up(self) -> bool:
        """Whether a host runs, as far as is known, and can take commands."""
        return self._process is not None and self._process.channel.is_open

    @property
    def pid(self) -> int | None:
        """The host's process id; None while there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def step_s(self) -> float:
        """Seconds since the host entered the step that it is in; 0 between two steps and without a host."""
        return self._process.step_s if self._process is not None else 0.0

    # Jobs

    def open(self, claim: Claim, entry_size: EntrySize) -> Stream:
        """Start the claimed job in the host, once its files are here.

        Raises HandBack without a host, or before it has loaded the model.
        """
        job = claim.job
        if not self.is_up or self._process is None or job.model not in self.models.loaded:
            raise HandBack(f"the engine host has no {job.model} now")
        self._last_handle += 1
        stream = Stream(self._last_handle, entry_size, self._send_credit)
        if job.inputs or job.voice_digests or job.model in self._files.models:
            self._streams[stream.handle] = stream
            self._files.fetch(stream, job, partial(self._start, stream, claim))
            return stream
        command = _start(stream, claim)  # before the stream is registered: nothing would remove it again
        self._streams[stream.handle] = stream
        self._process.channel.send(command)
        return stream

    def _start(self, stream: Stream, claim: Claim, files: wire.Files) -> None:
        """Start a job whose files are fetched, unless its stream or its host has ended meanwhile."""
        if stream.handle in self._streams and self._process is not None:
            self._process.channel.send(_start(stream, claim, files))

    def close(self, stream: Stream) -> None:
        """Stop the job in the host, if it still runs there. Idempotent."""
        if stream.handle in self._files.fetches:
            self._files.close(stream.handle)
        is_here = self._streams.pop(stream.handle, None) is not None
        if is_here and not stream.is_done and self._process is not None:
            self._process.channel.send(pipe.encode_command(pipe.Stop(stream.handle)))

    def _send_credit(self, handle: int, num_bytes: int) -> None:
        if handle in self._streams and self._process is not None:
            self._process.channel.send(pipe.encode_command(pipe.Credit(handle, num_bytes)))

    def _on_host_message(self, message: pipe.ControlMessage) -> None:
        if self.models.update(message):
            self._on_change()


def _start(stream: Stream, claim: Claim, files: wire.Files | None = None) -> bytes:
    """The commands that start a claimed job; its increments go to the host, and are kept here no longer."""
    # A clip is the voice: the id of an uploaded one means nothing to an engine.
    job = msgspec.structs.replace(claim.job, voice="") if REFERENCE in claim.job.inputs else claim.job
    start = pipe.Start(
        handle=stream.handle,
        request=wire.engine_request(job, files),
        start_frame=claim.position.frame,
        attempt=claim.lease.attempt,
        checkpoint=claim.checkpoint,
    )
    increments = [pipe.encode_command(pipe.Increment(stream.handle, data)) for data in claim.increments]
    claim.increments.clear()
    return b"".join([*increments, pipe.encode_command(start)])
