"""A job's audio as it arrives, for whatever carries it on: a response body, a WebSocket, lines of JSON."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from bus import wire
from bus.errors import EngineFailed, JobError
from bus.jobs import lookup
from bus.jobs.attach import Attachment
from bus.jobs.interest import Listener
from bus.jobs.status import Status
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gateway.jobs.cache import Outcome, for_all_tenants, is_derived
from gateway.jobs.pcm_reader import PcmReader
from gateway.jobs.service import Jobs
from gateway.jobs.shared_run import SharedRun

log = logger(__name__)


class AudioStream:
    """A job's PCM in pieces; iterate it once. Leaving the block of `open_stream` before its end is hanging up."""

    def __init__(
        self,
        jobs: Jobs,
        job: wire.Job,
        attachment: Attachment,
        listener: Listener,
        reader: PcmReader,
        *,
        is_new: bool,
        run: SharedRun | None = None,
        requested_at: float | None = None,
    ) -> None:
        """`run`: the source of the attachment and the listener, if another run may follow it.

        `requested_at`: monotonic seconds at which the request that made the job arrived; for `audio.started`.
        """
        self._jobs = jobs
        self._attachment = attachment
        self._listener = listener
        self._reader = reader
        self._run = run
        self._requested_at = requested_at if is_new else None
        self.job = job
        self.key = jobs.bus.subjects.job_key(job.tenant, job.id)
        #: Whether this request made the job; False: it attached to an existing one.
        self.is_new = is_new
        #: How the result cache answered; None: the request could not share a run.
        self.cache_outcome: Outcome | None = None if run is None else run.outcome
        #: Set with the last piece of a job that is done, once every frame of it has been yielded.
        self.is_whole = False
        #: Marks located in the piece yielded last; frames count from the beginning of the job.
        self.marks: list[wire.Mark] = []

    @property
    def media(self) -> tuple[int, int]:
        """(rate_hz, channels); known from the first piece on. Raises EngineFailed if the log does not say."""
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
        return None if self._run is None or self.cache_outcome != "hit" else self._run.done

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield PCM, s16le and interleaved; only the last piece may be empty.

        Raises the JobError that the job ended with, unless it is done; Gone, NotFound, Unreachable.
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
                if self._run is None or not await self._run.move_on(error):
                    raise
                self._continue_with(self._run)

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """The PCM of the current run, to its end, however it ends."""
        worker = ""
        async with aclosing(aiter(self._attachment)) as batches:
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
                    self._listener.saw_end = True
                    self._jobs.ended(self.key)
                    if self._run is not None:
                        self._run.finished()
                    self.is_whole = self._reader.is_complete
                if pcm or self.is_whole:
                    yield pcm

    def _log_first_piece(self, after_s: float) -> None:
        self._requested_at, job = None, self.job
        log.debug(
            "audio.started", job=job.id, tenant=job.tenant, model=job.model, lane=job.lane, after_s=round(after_s, 4)
        )

    def _continue_with(self, run: SharedRun) -> None:
        """Identical jobs have identical audio: the next run continues after the last frame of this one."""
        self._attachment = run.attachment
        self._listener = run.listener
        self.job = run.job
        self.key = self._jobs.bus.subjects.job_key(run.job.tenant, run.job.id)
        self.is_new = run.outcome == "miss"
        self._reader.end = None


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
    if is_derived(job.id):
        is_shared = jobs.cache.is_shared and not own_id
        async with SharedRun(jobs, for_all_tenants(job) if is_shared else job) as run:
            await run.find(fresh=fresh)
            yield AudioStream(
                jobs,
                run.job,
                run.attachment,
                run.listener,
                PcmReader(),
                is_new=run.outcome == "miss",
                run=run,
                requested_at=requested_at,
            )
        return
    async with jobs.listen(jobs.key(job.tenant, job.id), job) as (listener, attachment):
        accepted = await jobs.accept(job, listener)
        if not accepted.is_new:
            attachment.read_back()
        yield AudioStream(
            jobs,
            accepted.job,
            attachment,
            listener,
            PcmReader(),
            is_new=accepted.is_new,
            requested_at=requested_at,
        )


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
        yield AudioStream(jobs, job, attachment, listener, PcmReader(from_frame, media), is_new=False)
