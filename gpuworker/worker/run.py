"""The life of one job on a worker, from its claim to one outcome.

claim ─ open the stream ─ append until it ends ─┬─ pipe.Done, pipe.Failed       terminal entry, ack
    (in a full store an append waits for room)  ├─ more audio than its bound    terminal entry `failed`, ack
                                                ├─ DeadlinePassed, NoListeners  the log is ended as any process may
                                                ├─ HandBack, EngineLost         lease released, NAK: offered again
                                                └─ LeaseRevoked, Fenced         nothing: another process has the job
"""

import asyncio
import time
from functools import partial
from typing import Literal

import msgspec

from bus import wire
from bus.errors import EngineFailed, Fenced, Full, OutOfDeviceMemory, Unreachable
from bus.fleet.messages import ModelCard
from bus.jobs.birth import next_deadline
from bus.jobs.claim import Claim, Claims, JobLease
from bus.jobs.client import Bus
from bus.jobs.entry import Position
from bus.jobs.log import Writer
from bus.quality import Quality
from bus.telemetry.logging import logger
from gpuworker import pipe
from gpuworker.engine import Resume
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.entry_size import EntrySize
from gpuworker.worker.patrol import Patrol
from gpuworker.worker.storage import ENTRY_OVERHEAD_BYTES, StorageGate, StorageWait
from gpuworker.worker.stream import (
    Audio,
    DeadlinePassed,
    EngineLost,
    HandBack,
    Interruption,
    LeaseRevoked,
    NoListeners,
    Piece,
    SizeLimit,
    Stream,
)

log = logger(__name__)

#: How long one append may wait for the bus (a restart, an election, a full disk) before the job is dropped.
_APPEND_PATIENCE_S = 120.0
_ENGINE_FAULTS = frozenset({EngineFailed.code, OutOfDeviceMemory.code})  # not the request's fault


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Audio that one attempt has put into the log, and the seconds that it took."""

    blocks: int
    frames: int
    audio_s: float
    #: Since the claim.
    took_s: float
    #: From the claim until the first block was stored; None if there is none.
    first_block_s: float | None

    @classmethod
    def of(cls, before: Position, after: Position, times: "RunTimes", rate_hz: int, now_s: float) -> "RunFacts":
        """Facts of an attempt that took the log from `before` to `after`."""
        frames = after.frame - before.frame
        first_block_s = times.first_block_at - times.claimed_at if times.first_block_at is not None else None
        return cls(
            blocks=after.block - before.block,
            frames=frames,
            audio_s=round(frames / rate_hz, 6),
            took_s=round(max(0.0, now_s - times.claimed_at), 4),
            first_block_s=round(max(0.0, first_block_s), 4) if first_block_s is not None else None,
        )


class RunTimes:
    """Times of one attempt, Unix seconds of the bus's clock."""

    __slots__ = ("_claim", "claimed_at", "first_block_at")

    def __init__(self, claim: Claim, claimed_at: float) -> None:
        self._claim = claim
        self.claimed_at = claimed_at
        #: When the first block of this attempt was stored; None before.
        self.first_block_at: float | None = None

    @property
    def waited_s(self) -> float | None:
        """From the job's acceptance to this claim; None if a worker had claimed it before."""
        if not self._claim.is_first:
            return None
        return round(max(0.0, self.claimed_at - self._claim.birth.accepted_at), 4)

    def timings(self, now_s: float) -> wire.Timings:
        """Timings of a job that is done at `now_s`. `first_block_s` is absent if an earlier attempt stored it."""
        accepted_at = self._claim.birth.accepted_at
        is_own_first = self._claim.position.frame == 0 and self.first_block_at is not None
        return wire.Timings(
            queued_s=round(max(0.0, self.claimed_at - accepted_at), 4),
            first_block_s=round(max(0.0, (self.first_block_at or now_s) - accepted_at), 4) if is_own_first else None,
            total_s=round(max(0.0, now_s - accepted_at), 4),
        )


class Run:
    """One attempt at a claimed job; `patrol` measures the audio that it appends."""

    def __init__(
        self,
        bus: Bus,
        host: EngineHost,
        claims: Claims,
        storage: StorageGate,
        card: ModelCard,
        claim: Claim,
        patrol: Patrol | None = None,
    ) -> None:
        self.claim = claim
        self.times = RunTimes(claim, bus.clock.now())
        self.finished = asyncio.Event()
        #: Whether the engine failed or stalled in this job; a host that died counts as a fault of the host instead.
        self.engine_failed = False
        self._bus = bus
        self._host = host
        self._storage = storage
        self._patrol = patrol
        self._card = card
        self._frame_bytes = 2 * card.channels
        self._size = SizeLimit(bus.settings, card, claim.job)
        self._entry_size = EntrySize(card.rate_hz, self._frame_bytes)
        self._stream: Stream | None = None
        self._writer = Writer(
            bus.logs, claim.key, claim.lease_seq, claim.lease, claim.position, _started(claim, card), _APPEND_PATIENCE_S
        )
        self.lease = JobLease(bus, claims, claim, self._writer)

    async def go(self) -> str:
        """Run to one outcome and return its name for the log line. Raises nothing that a job can cause.

        Cancelling leaves the lease as it is: another worker continues the job after ack_wait.
        """
        try:
            outcome = await self._perform()
        except DeadlinePassed as interruption:
            outcome = await self.lease.end(wire.End.EXPIRED, str(interruption))
        except NoListeners as interruption:
            outcome = await self.lease.end(wire.End.CANCELLED, str(interruption))
        except HandBack as interruption:
            outcome = await self.lease.release(wire.LeaseState.HANDED_BACK, str(interruption))
        except EngineLost as lost:
            self.engine_failed = lost.is_fault
            outcome = await self.lease.release(
                wire.LeaseState.INTERRUPTED, str(lost), host_died=lost.host_died, traceback=lost.traceback
            )
        except LeaseRevoked:
            outcome = "fenced"
        except Fenced:
            log.info("job.fenced")
            self.interrupt(LeaseRevoked())  # so that `stopped` says why, as for a revocation that was announced
            outcome = "fenced"
        except Unreachable as error:
            log.error("job.bus_unreachable", error=str(error))
            outcome = "bus_unreachable"
        finally:
            if self._stream is not None:
                self._host.close(self._stream)
            self.finished.set()
        return outcome

    async def _perform(self) -> str:
        due_s, why = self.deadline
        if self.times.claimed_at >= due_s:
            raise DeadlinePassed(why)
        stream = self._stream = self._host.open(self.claim, self._entry_size)
        storage, tenant, entry_size, outcome = self._storage, self.claim.key.tenant, self._entry_size, None
        storage.bulk.needed_at[tenant] = time.monotonic()
        while outcome is None:
            piece = self._size.checked(await stream.next(), self._writer.position)
            try:
                if storage.is_open(is_bulk=entry_size.is_far_ahead(time.monotonic())):
                    outcome = await self._append(stream, piece)
                    continue
            except Full:
                storage.refused()
            wait = StorageWait(storage, tenant, stream, entry_size, self.lease)
            is_end = isinstance(piece, pipe.Done | pipe.Failed)
            outcome = await wait.append(partial(self._append, stream, piece), is_end=is_end)
        return outcome

    async def _append(self, stream: Stream, piece: Piece) -> str | None:
        """Append one piece; the outcome if it ends the job. After Full it may be repeated: nothing was stored."""
        match piece:
            case Audio(pcm=pcm, marks=marks):
                self._storage.charge(len(pcm) + ENTRY_OVERHEAD_BYTES)
                async with self._storage.turn(self.claim.key.tenant, stream, self._entry_size):
                    await self._writer.block(pcm, len(pcm) // self._frame_bytes, marks)
                self.times.first_block_at = self.times.first_block_at or self._bus.clock.now()
                stream.appended(piece)
                if self._patrol is not None:
                    self._patrol.add(pcm)
            case pipe.Progress(phase=phase, done=done, total=total):
                await self._writer.progress(wire.Progress(phase=phase, done=done, total=total))
            case pipe.Checkpoint():
                await _store(self._writer, self._storage, piece)
            case pipe.Done():
                quality = await self._patrol.finish() if self._patrol is not None else None
                timings = self.times.timings(self._bus.clock.now())
                body = _done(self._writer.position, self._card, timings, piece, quality)
                return await self.lease.finish(wire.End.DONE, body)
            case pipe.Failed():
                self.engine_failed = piece.code in _ENGINE_FAULTS
                return await self.lease.finish(wire.End.FAILED, _failed(piece, self.claim.lease))
        return None

    def interrupt(self, interruption: Interruption) -> None:
        """Stop the engine now; the task in `go` then settles the lease. The first interruption wins."""
        if self._stream is not None:
            self._stream.interrupt(interruption)
            self._host.close(self._stream)

    @property
    def stopped(self) -> tuple[str, float] | None:
        """(why the job was interrupted, as a label; seconds since then); None if it was not interrupted."""
        stream = self._stream
        if stream is None or stream.interruption is None:
            return None
        return stream.interruption.why, round(time.monotonic() - stream.interrupted_at, 4)

    @property
    def facts(self) -> RunFacts:
        """Audio and times of this attempt until now."""
        now_s = self._bus.clock.now()
        return RunFacts.of(self.claim.position, self._writer.position, self.times, self._card.rate_hz, now_s)

    @property
    def deadline(self) -> tuple[float, str]:
        """When this job expires, Unix seconds of the bus's clock, and why."""
        return next_deadline(self.claim.birth, self._writer.position.frame > 0)

    @property
    def silent_s(self) -> float:
        """Seconds since the engine's last sign of life in this job, without the step that the host is in."""
        # The step may be another job's, and the host itself is watched for a step that never ends.
        return max(0.0, self._stream.silent_s - self._host.step_s) if self._stream is not None else 0.0

    @property
    def waits_for_room(self) -> bool:
        """Whether its audio waits until the store has room."""
        return self._stream is not None and self._stream.waits_for_room

    def restart_silence(self) -> None:
        """Count silence from now on: the engine could not go on, or was not read."""
        if self._stream is not None:
            self._stream.restart_silence()


def _done(
    position: Position, card: ModelCard, timings: wire.Timings, done: pipe.Done, quality: Quality | None
) -> wire.Done:
    unverified: Literal["", "unverified"] = "unverified" if card.kind == "speech" else ""
    return wire.Done(
        blocks=position.block,
        frames=position.frame,
        seconds=round(position.frame / card.rate_hz, 6),
        crc32=f"{position.crc32:08x}",
        timings=timings,
        engine=done.facts,
        completeness="words" if done.is_verified else unverified,
        skipped=done.skipped,
        quality=quality,
    )


def _failed(failed: pipe.Failed, lease: wire.Lease) -> wire.Failed:
    if failed.traceback:
        log.error("engine.failed", error=failed.message, traceback=failed.traceback)
    return wire.Failed(
        code=failed.code, message=failed.message, path=failed.path, worker=lease.worker, attempt=lease.attempt
    )


async def _store(writer: Writer, storage: StorageGate, made: pipe.Checkpoint) -> None:
    storage.charge(len(made.data) * 4 // 3 + ENTRY_OVERHEAD_BYTES)  # base64
    if not await writer.checkpoint(wire.Checkpoint(frame=made.frame, data=made.data), grows=made.grows):
        log.info("job.chain_full", frame=made.frame)


def _started(claim: Claim, card: ModelCard) -> wire.Started:
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
