"""A job's sound as it comes, for whoever answers with it: a body, a socket, a line of JSON."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from bus import wire
from bus.errors import EngineFailed, JobError
from bus.jobs import lookup as find
from bus.jobs.attach import Attachment
from bus.jobs.interest import Listener
from bus.jobs.status import Status
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gateway.http.gateway import Gateway
from gateway.jobs.cache import How, is_derived, of_all_tenants
from gateway.jobs.pcm_reader import Tape
from gateway.jobs.shared_run import MAX_BUFFER_BYTES, EqualRun, ears

log = logger(__name__)


class Sound:
    """Iterate it once. Leaving `hear` or `join` before its end is hanging up."""

    def __init__(
        self,
        gateway: Gateway,
        job: wire.Job,
        attachment: Attachment,
        listener: Listener,
        tape: Tape,
        *,
        is_new: bool,
        run: EqualRun | None = None,
        asked_at: float | None = None,
    ) -> None:
        """`run`: where the attachment and the listener come from, if another one may follow it.

        `asked_at`: monotonic seconds of the request that made the job, to tell when its first sound is here.
        """
        self._gateway, self._attachment, self._listener, self._tape = gateway, attachment, listener, tape
        self._run, self._asked_at = run, asked_at if is_new else None
        self.job, self.name = job, gateway.bus.subjects.job_key(job.tenant, job.id)
        #: Whether this request made the job; False: it attached to one that was there.
        self.is_new = is_new
        #: How an equal request's run was of use; None: this one could not be answered by another's.
        self.reused: How | None = None if run is None else run.how
        #: Set with the last piece of a job that is done, of which every frame has been given.
        self.is_whole = False
        #: What begins to be heard in the piece given last, by frame of the job.
        self.marks: list[wire.Mark] = []

    @property
    def media(self) -> tuple[int, int]:
        """(rate_hz, channels); known from the first piece on. Raises EngineFailed if the log never told it."""
        if self._tape.media is None:
            raise EngineFailed("the job is done and never told its media")
        return self._tape.media

    @property
    def done(self) -> wire.Done:
        """What the job's end says; ask once it is whole."""
        assert self._tape.end is not None
        return wire.decode(wire.Done, self._tape.end.payload)

    @property
    def finished(self) -> wire.Done | None:
        """What the end of a job says that was done before this request came, where that was seen."""
        return None if self._run is None or self.reused != "hit" else self._run.done

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
                self._tape.check_complete()
            except JobError as error:
                if self._run is None or not await self._run.move_on(error):
                    raise
                self._go_on_with(self._run)

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """What this run gives, to its end, whatever that is."""
        worker = ""
        async with aclosing(aiter(self._attachment)) as batches:
            async for batch in batches:
                pcm = self._tape.feed(batch)
                batch.clear()  # a slow reader's sound is held once
                self.marks = self._tape.marks
                if pcm and self._asked_at is not None:
                    self._began(time.monotonic() - self._asked_at)
                if self._tape.worker != worker:
                    worker = self._tape.worker
                    self._gateway.interest.spoke(self.name, worker)
                if self._tape.end is not None:
                    self._listener.saw_end = True
                    self._gateway.ended(self.name)
                    if self._run is not None:
                        self._run.landed()
                    self.is_whole = self._tape.is_complete
                if pcm or self.is_whole:
                    yield pcm

    def _began(self, after_s: float) -> None:
        self._asked_at, job = None, self.job
        log.debug(
            "audio.started", job=job.id, tenant=job.tenant, model=job.model, lane=job.lane, after_s=round(after_s, 4)
        )

    def _go_on_with(self, run: EqualRun) -> None:
        """Equal jobs have equal sound: the next one goes on behind the last frame that was heard of this one."""
        self._attachment, self._listener, self.job = run.attachment, run.listener, run.job
        self.name, self.is_new = self._gateway.bus.subjects.job_key(run.job.tenant, run.job.id), run.how == "miss"
        self._tape.end = None


@contextlib.asynccontextmanager
async def hear(gateway: Gateway, job: wire.Job, *, fresh: bool = False, own: bool = False) -> AsyncIterator[Sound]:
    """Put a complete job on the bus and listen to it; one with a derived id may be heard as an equal one's log.

    `fresh`: only as one that begins after this. `own`: never as one that is not the tenant's own to ask for by its id.

    Raises as `Gateway.accept` does. Cancelling is hanging up: the job ends, unless it runs on or others listen.
    """
    asked_at = time.monotonic()
    if is_derived(job.id):
        is_shared = gateway.settings.shared_cache and not own
        async with EqualRun(gateway, of_all_tenants(job) if is_shared else job) as run:
            await run.find(fresh=fresh)
            is_new = run.how == "miss"
            yield Sound(
                gateway, run.job, run.attachment, run.listener, Tape(), is_new=is_new, run=run, asked_at=asked_at
            )
        return
    name = gateway.bus.subjects.job_key(job.tenant, job.id)
    async with ears(gateway, name, job) as (listener, attachment):
        accepted = await gateway.accept(name, job, listener)
        if not accepted.is_new:
            attachment.read_back()
        yield Sound(gateway, accepted.job, attachment, listener, Tape(), is_new=accepted.is_new, asked_at=asked_at)


@contextlib.asynccontextmanager
async def join(gateway: Gateway, name: JobKey, found: Status, from_frame: int = 0) -> AsyncIterator[Sound]:
    """Listen to a job that exists, from a frame on that may be past or to come. `found`: where it stood just now.

    Listening to one that has ended is no interest in it. Raises Gone, NotFound, Unreachable.
    """
    bus, job, after_seq, media = gateway.bus, found.birth.job, 0, None
    if from_frame and found.tail is not None:
        media = await find.media(bus, name, found.birth_seq)
        entry = await find.frame(bus, name, found.birth_seq, found.tail.seq, from_frame)
        # Beyond the end there is still the end to hear.
        after_seq = entry.seq - 1 if entry is not None else found.tail.seq - found.is_ended
    run_on = found.is_ended or job.run_on is not False
    async with gateway.interest.listen(name, run_on=run_on, linger_s=job.linger_s) as listener:
        attachment = Attachment(bus.connection, bus.logs, name, after_seq=after_seq, max_buffer_bytes=MAX_BUFFER_BYTES)
        async with attachment:
            yield Sound(gateway, job, attachment, listener, Tape(from_frame, media), is_new=False)
