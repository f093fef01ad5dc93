"""A job's audio as it arrives, for whatever carries it on: a response body, a WebSocket, lines of JSON."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from bus import wire
from bus.errors import EngineFailed, JobError, LogDamaged
from bus.jobs import ids, lookup
from bus.jobs.attach import Attachment
from bus.jobs.interest import Listener
from bus.jobs.status import Status
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gateway.jobs.cache import Outcome, for_all_tenants
from gateway.jobs.pcm_reader import PcmReader
from gateway.jobs.service import Jobs
from gateway.jobs.shared_run import SharedRun

log = logger(__name__)


@dataclass(slots=True)
class OwnRun:
    """The run of a job that no identical request shares."""

    job: wire.Job
    key: JobKey
    listener: Listener
    attachment: Attachment
    #: Whether this request made the job; False: the job existed before.
    is_new: bool
    outcome: None = None
    done: None = None

    async def move_on(self, error: JobError) -> bool:
        """False: no other run can follow this one."""
        return False

    def finished(self) -> None:
        """Nothing is to be done: no other request waits for this run."""


class AudioStream:
    """A job's PCM in pieces; iterate it once. Leaving the block of `open_stream` before its end is hanging up."""

    def __init__(
        self, jobs: Jobs, run: OwnRun | SharedRun, reader: PcmReader, *, requested_at: float | None = None
    ) -> None:
        """`requested_at`: monotonic seconds at which the request that made the job arrived; for `audio.started`."""
        self._jobs = jobs
        self._run = run
        self._reader = reader
        self._requested_at = requested_at if run.is_new else None
        self.job = run.job
        self.key = run.key
        #: Whether this request made the job; False: it attached to an existing one.
        self.is_new = run.is_new
        #: How the result cache answered; None: the request could not share a run.
        self.cache_outcome: Outcome | None = run.outcome
        #: Set with the last piece of a job that is done, once every frame of it has been yielded.
        self.is_whole = False
        #: Marks located in the piece yielded last; frames count from the beginning of the job.
        self.marks: list[wire.Mark] = []

    @property
    def media(self) -> tuple[int, int]:
        """(rate_hz, channels); known from the first piece on. Raises EngineFailed if the log does not state it."""
        if self._reader.media is None:
            raise EngineFailed("the job is done and its log does not state its media type")
        return self._reader.media

    @property
    def done(self) -> wire.Done:
        """The job's `done` entry; call it once the stream is whole."""
        assert self._reader.end is not None
        return wire.decode(wire.Done, self._reader.end.payload)

    @property
    def finished_before(self) -> wire.Done | None:
        """The `done` entry of a job that had finished before this request, if it was read."""
        return self._run.done if self.cache_outcome == "hit" else None

    @property
    def num_frames(self) -> int | None:
        """Frames of the whole job, if that is known by now: it had finished before, or its end has been read."""
        if self.is_whole:
            return self._reader.frame
        done = self.finished_before
        return done.frames if done is not None else None

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield PCM, s16le and interleaved; only the last piece may be empty.

        Raises the JobError that the job ended with, unless it is done; Gone, LogDamaged, NotFound, Unreachable.
        """
        while not self.is_whole:
            try:
                async with aclosing(self._pieces()) as pieces:
                    async for pcm in pieces:
                        yield pcm
                if self.is_whole:
                    return
                self._reader.check_complete()
            except JobError as error:
                reason = await self._jobs.damaged.found(self.key, error) if isinstance(error, LogDamaged) else error
                if not await self._run.move_on(reason):
                    raise reason from None
                self._continue()

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """The PCM of the current run, to its end, however it ends."""
        worker = ""
        async with aclosing(aiter(self._run.attachment)) as batches:
            async for batch in batches:
                pcm = self._reader.feed(batch)
                batch.clear()  # otherwise the audio of a slow client is held twice
                self.marks = self._reader.marks
                if pcm and self._requested_at is not None:
                    self._log_first_piece(time.monotonic() - self._requested_at)
                if self._reader.worker != worker:
                    worker = self._reader.worker
                    self._jobs.first_entry_from(self.key, worker)
                if self._reader.end is not None:
                    self._run.listener.saw_end = True
                    self._jobs.ended(self.key)
                    self._run.finished()
                    self.is_whole = self._reader.is_complete
                if pcm or self.is_whole:
                    yield pcm

    def _log_first_piece(self, after_s: float) -> None:
        job = self.job
        self._requested_at = None
        log.debug(
            "audio.started", job=job.id, tenant=job.tenant, model=job.model, lane=job.lane, after_s=round(after_s, 4)
        )

    def _continue(self) -> None:
        """Identical jobs have identical audio: the next run continues after the last frame of the previous one."""
        self.job = self._run.job
        self.key = self._run.key
        self.is_new = self._run.is_new
        self._reader.go_on()


@contextlib.asynccontextmanager
async def open_stream(
    jobs: Jobs, job: wire.Job, *, fresh: bool = False, own_id: bool = False
) -> AsyncIterator[AudioStream]:
    """Accept a validated job and stream its audio; a job with a derived id may be answered by an identical one.

    `fresh`: only by a run that starts after this call. `own_id`: only by a job of the caller's own tenant, so that the
    caller can find it by its id.

    Raises as `Jobs.accept` does. Cancelling is hanging up: the job ends, unless it runs on or others listen.
    """
    requested_at = time.monotonic()
    if ids.is_derived(job.id):
        # The blobs of its inputs are its own tenant's.
        is_shared = jobs.cache.is_shared and not own_id and not job.inputs
        async with SharedRun(jobs, for_all_tenants(job) if is_shared else job) as run:
            await run.find(fresh=fresh)
            yield AudioStream(jobs, run, PcmReader(), requested_at=requested_at)
        return
    key = jobs.key(job.tenant, job.id)
    async with jobs.listen(key, job) as (listener, attachment):
        accepted = await jobs.accept(job, listener)
        if not accepted.is_new:
            attachment.read_back()
        own = OwnRun(accepted.job, key, listener, attachment, is_new=accepted.is_new)
        yield AudioStream(jobs, own, PcmReader(), requested_at=requested_at)


@contextlib.asynccontextmanager
async def join_stream(jobs: Jobs, key: JobKey, found: Status, from_frame: int = 0) -> AsyncIterator[AudioStream]:
    """Stream the audio of an existing job from a frame, which may be past or to come. `found`: its status just now.

    The caller counts as a listener, unless the job has ended. Raises Gone, NotFound, Unreachable.
    """
    bus, job, after_seq, media = jobs.bus, found.birth.job, 0, None
    if from_frame and found.tail is not None:
        media = await lookup.media(bus, key, found.birth_seq)
        entry = await lookup.frame(bus, key, found.birth_seq, found.tail.seq, from_frame)
        # Beyond the last frame there is still the terminal entry to read.
        after_seq = entry.seq - 1 if entry is not None else found.tail.seq - found.is_ended
    run_on = True if found.is_ended else None
    async with jobs.listen(key, job, is_new=False, after_seq=after_seq, run_on=run_on) as (listener, attachment):
        reader = PcmReader(from_frame, media, verify=found.is_ended)
        yield AudioStream(jobs, OwnRun(job, key, listener, attachment, is_new=False), reader)
