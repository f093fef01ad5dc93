"""The files of jobs: fetched before the engine starts, removed when the job leaves the host."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from bus import wire
from bus.blobs.blob import VOICES
from bus.errors import Invalid, Unreachable, VoiceGone
from bus.telemetry.logging import logger
from bus.voices import CLIP_INPUTS
from gpuworker import pipe
from gpuworker.worker.blob_cache import BlobCache, FileUnavailable, WantedFile
from gpuworker.worker.installed_voices import InstalledVoices
from gpuworker.worker.stream import EngineLost, Stream

log = logger(__name__)

#: Called with the paths of a job's files.
Start = Callable[[wire.Files], None]


class RunFiles:
    """Fetches for many streams at a time, each in a task of its own."""

    def __init__(self, cache: BlobCache, voices: InstalledVoices) -> None:
        self._cache = cache
        self._voices = voices
        #: Models that have installed voices: their jobs may need files.
        self.models = voices.models
        #: By the handle of the stream, until `close`.
        self.fetches: dict[int, asyncio.Task[None]] = {}
        self._folders: dict[int, Path] = {}

    def fetch(self, stream: Stream, job: wire.Job, start: Start) -> None:
        """Fetch the files of a job, then call `start`; call `close` once its stream has ended.

        A file that is gone or damaged fails the job by its name. If the disk refuses it, the stream is interrupted, so
        that another worker tries; as it is if the bus does not answer.
        """
        task = asyncio.create_task(self._fetch(stream, job, start), name=f"files {stream.handle}")
        self.fetches[stream.handle] = task

    async def _fetch(self, stream: Stream, job: wire.Job, start: Start) -> None:
        # Of a person's voice nothing stays here: its owner may delete it while this worker is not there.
        wanted = {name: WantedFile(job.tenant, digest, name not in CLIP_INPUTS) for name, digest in job.inputs.items()}
        try:
            voices = await self._voices.of(job)
            for voice in voices:
                wanted |= {name: WantedFile(VOICES, digest) for name, digest in voice.files.items()}
            # Each piece that arrives is a sign of life: a fetch that stalls ends as an engine that does.
            folder = await self._cache.hold(wanted, stream.restart_silence) if wanted else Path()
        except FileUnavailable as error:
            if error.name in CLIP_INPUTS and job.voice:
                gone = f"voice: {job.voice!r} was deleted or replaced before this attempt had its clip"
                stream.on_control(pipe.Failed(VoiceGone.code, gone, "voice"))
                return
            path = f"inputs.{error.name}" if error.name in job.inputs else "voice"
            stream.on_control(pipe.Failed(Invalid.code, f"{path}: {error}", path))
        except (OSError, Unreachable) as error:
            log.error("blob.cache_failed", error=str(error))
            stream.interrupt(EngineLost(f"its worker could not fetch its files: {error}"))
        else:
            if wanted:
                self._folders[stream.handle] = folder
            inputs = {name: str(folder / name) for name in job.inputs}
            start(wire.Files(inputs, {each.name: {name: str(folder / name) for name in each.files} for each in voices}))

    def close(self, handle: int) -> None:
        """Stop fetching for a stream, and remove its files. Idempotent."""
        if (task := self.fetches.pop(handle, None)) is not None:
            task.cancel()
            task.add_done_callback(lambda _: self._release(handle))

    def _release(self, handle: int) -> None:
        if (folder := self._folders.pop(handle, None)) is not None:
            self._cache.release(folder)
