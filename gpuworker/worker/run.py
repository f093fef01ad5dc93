"""The life of one job on a worker, from its claim to one outcome.

claim ─ open the stream ─ append until it ends ─┬─ done, failed    terminal entry, ack
                                                ├─ Due, Left       end(), for whoever else may look
                                                ├─ HandBack, Lost  lease given up, NAK: somebody else goes on
                                                └─ Taken, Fenced   nothing: the job is not ours any more
"""

import asyncio
import time

import msgspec

from bus import wire
from bus.errors import BusError, EngineFailed, Fenced, Full, OutOfDeviceMemory, Unreachable
from bus.fleet.messages import ModelCard
from bus.jobs.claim import Claim, Claims
from bus.jobs.client import Bus
from bus.jobs.delivery import give_back
from bus.jobs.entry import Position
from bus.jobs.status import next_deadline
from bus.jobs.writer import Writer
from bus.telemetry.logging import logger
from gpuworker import pipe
from gpuworker.crash import MAX_TRACE_BYTES
from gpuworker.engine import Resume
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.stream import Audio, Due, HandBack, Interruption, Left, Lost, Stream, Taken

log = logger(__name__)

#: How long one append may wait for the bus (a restart, an election, a full disk) before the job is let go.
_APPEND_PATIENCE_S = 120.0
#: Outcomes that are the engine's fault, not the request's.
_ENGINE_FAULTS = frozenset({EngineFailed.code, OutOfDeviceMemory.code})


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt has put into the log, and in what time. Seconds."""

    blocks: int
    frames: int
    audio_s: float
    #: Since the claim.
    took_s: float
    #: From the claim to the first block's being stored; None if there is none.
    first_block_s: float | None


class Run:
    """A claimed job in this worker's hands."""

    def __init__(self, bus: Bus, host: EngineHost, claims: Claims, card: ModelCard, claim: Claim) -> None:
        self._bus, self._host, self._claims, self._card, self.claim = bus, host, claims, card, claim
        #: Where to acknowledge; a redelivery to the same worker replaces it (rule 10).
        self.ack_subject = claim.lease.ack
        self.stream: Stream | None = None
        self.finished = asyncio.Event()
        #: Whether the engine failed or stalled in it; a host that died in it is the host's own affair.
        self.engine_failed = False
        #: Questions for listeners that nobody answered, one after the other.
        self.misses = 0
        self._claimed_at = bus.clock.now()
        self._first_at: float | None = None

        self._writer = Writer(
            bus.logs, claim.key, claim.lease_seq, claim.lease, claim.position, self._started(), _APPEND_PATIENCE_S
        )
        self.runs_on = claim.job.run_on is not False

    def _started(self) -> wire.Started:
        claim, card = self.claim, self._card
        seam = claim.position.frame
        return wire.Started(
            media=wire.media_type(card.rate_hz, card.channels),
            worker=claim.lease.worker,
            attempt=claim.lease.attempt,
            model=card.name,
            version=card.version,
            seam_frame=seam if seam or claim.lease.attempt > 1 else None,
            exact=not seam or card.resume != Resume.RESTART,
        )

    @property
    def lease_seq(self) -> int:
        return self._writer.lease_seq

    def interrupt(self, interruption: Interruption) -> None:
        """Stop the engine now; the task settles the lease."""
        if self.stream is not None:
            self.stream.interrupt(interruption)
            self._host.close(self.stream)

    @property
    def has_sound(self) -> bool:
        """Whether a block of this attempt is in the log."""
        return self._first_at is not None

    @property
    def waited_s(self) -> float | None:
        """From the job's acceptance to our claim; None if somebody had taken it before."""
        if not self.claim.is_first:
            return None
        return round(max(0.0, self._claimed_at - self.claim.birth.accepted_at), 4)

    @property
    def stopped(self) -> tuple[str, float] | None:
        """Why the job was interrupted, in a word, and how many seconds ago; None if it was not."""
        stream = self.stream
        if stream is None or stream.interruption is None:
            return None
        return stream.interruption.why, round(time.monotonic() - stream.interrupted_at, 4)

    @property
    def made(self) -> Made:
        before, after, first_at = self.claim.position, self._writer.position, self._first_at
        frames = after.frame - before.frame
        return Made(
            blocks=after.block - before.block,
            frames=frames,
            audio_s=round(frames / self._card.rate_hz, 6),
            took_s=round(max(0.0, self._bus.clock.now() - self._claimed_at), 4),
            first_block_s=round(max(0.0, first_at - self._claimed_at), 4) if first_at is not None else None,
        )

    @property
    def deadline(self) -> tuple[float, str]:
        """When this job expires, Unix seconds of the bus's clock, and why."""
        return next_deadline(self.claim.birth, self._writer.position.frame > 0)

    @property
    def silent_s(self) -> float:
        """How long the engine has shown no sign of life in this job.

        The step that the host is in does not count: it may be another job's, and one that never ends is the host's
        affair, which knows whose it is.
        """
        if self.stream is None or self.stream.waits_for_bus:
            return 0.0
        return max(0.0, time.monotonic() - self.stream.progress_at - self._host.step_s)

    async def go(self) -> str:
        """Run to one outcome; returns its name for the log line. Raises nothing a job can cause.

        Cancelling leaves the lease as it is: the job goes on elsewhere after ack_wait.
        """
        try:
            outcome = await self._perform()
        except Due as interruption:
            outcome = await self._end("expired", str(interruption))
        except Left as interruption:
            outcome = await self._end("cancelled", str(interruption))
        except HandBack as interruption:
            outcome = await self._let_go("handed_back", interruption)
        except Lost as interruption:
            outcome = await self._let_go("interrupted", interruption)
        except Taken:
            outcome = "fenced"
        except Fenced:
            log.info("job.fenced")
            self.interrupt(Taken())  # learnt by the refusal, before any word of it came: a stop like the others
            outcome = "fenced"
        except (Unreachable, Full) as error:
            log.error("job.bus_unreachable", error=str(error))
            outcome = "let go"
        finally:
            if self.stream is not None:
                self._host.close(self.stream)
            self.finished.set()
        return outcome

    async def _perform(self) -> str:
        claim = self.claim
        due_s, why = self.deadline
        if self._claimed_at >= due_s:
            raise Due(why)
        entry_size = EntrySize(self._card.rate_hz, 2 * self._card.channels)
        self.stream = self._host.open(
            claim.job, claim.position.frame, claim.lease.attempt, claim.checkpoint, entry_size
        )
        while True:
            piece = await self.stream.next()
            match piece:
                case Audio(pcm=pcm, marks=marks):
                    await self._writer.block(pcm, len(pcm) // (2 * self._card.channels), marks)
                    self._first_at = self._first_at or self._bus.clock.now()
                    self.stream.appended(piece)
                case pipe.Progress(phase=phase, done=done, total=total):
                    await self._writer.progress(wire.Progress(phase=phase, done=done, total=total))
                case pipe.Checkpoint(frame=frame, data=data):
                    await self._writer.checkpoint(wire.Checkpoint(frame=frame, data=data))
                case pipe.Done(facts=facts):
                    await self._writer.end("done", self._done(self._writer.position, facts))
                    self._bus.connection.publish(self.ack_subject, b"+ACK")
                    return "done"
                case pipe.Failed():
                    await self._broken(piece)
                    return "failed"

    def _done(self, position: Position, facts: dict[str, object]) -> wire.Done:
        accepted_at, now = self.claim.birth.accepted_at, self._bus.clock.now()
        first = self.claim.position.frame == 0 and self._first_at is not None
        timings = wire.Timings(
            queued_s=round(max(0.0, self._claimed_at - accepted_at), 4),
            first_block_s=round(max(0.0, (self._first_at or now) - accepted_at), 4) if first else None,
            total_s=round(max(0.0, now - accepted_at), 4),
        )
        return wire.Done(
            blocks=position.block,
            frames=position.frame,
            seconds=round(position.frame / self._card.rate_hz, 6),
            crc32=f"{position.crc32:08x}",
            timings=timings,
            engine=facts,
        )

    async def _broken(self, broken: pipe.Failed) -> None:
        lease = self.claim.lease
        self.engine_failed = broken.code in _ENGINE_FAULTS
        if broken.traceback:
            log.error("engine.failed", error=broken.message, traceback=broken.traceback)
        failed = wire.Failed(
            code=broken.code, message=broken.message, path=broken.path, worker=lease.worker, attempt=lease.attempt
        )
        await self._writer.end("failed", failed)
        self._bus.connection.publish(self.ack_subject, b"+ACK")

    async def _end(self, kind: wire.End, why: str) -> str:
        try:
            return await self._bus.logs.end(self.claim.key, kind, why)
        except BusError as error:
            log.error("job.end_failed", error=str(error))
            return "let go"

    async def _let_go(self, why: wire.Why, interruption: Interruption) -> str:
        """Rule 11: the engine is stopped and the last append acknowledged; the lease goes first, then the NAK.

        A job that nobody may try again is not offered again: it ends here, at once.
        """
        host_died, traceback = False, ""
        if isinstance(interruption, Lost):
            host_died, traceback = interruption.host_died, interruption.traceback[:MAX_TRACE_BYTES]
            self.engine_failed = not host_died
        try:
            lease = await self._writer.give_up(why, str(interruption), host_died=host_died, traceback=traceback)
            reason = self._claims.worn_out(lease, lease.attempt + 1) if why == "interrupted" else None
            if reason is not None:
                await self._claims.give_up(self.claim.key, self.claim.birth, lease, reason)
                self._bus.connection.publish(self.ack_subject, b"+ACK")
                return "failed"
        except (Fenced, Unreachable):
            return "fenced"
        except BusError as error:
            log.error("job.end_failed", error=str(error))
        give_back(self._bus.connection, self.ack_subject)
        return why
