"""Jobs that share one generator of one engine, inside the engine host.

A group turns an engine's events into messages to the worker: it trims audio before a job's next frame, converts to
s16le, refuses audio that is not finite, and counts the bytes that the worker has not yet stored on the bus (the
window).
"""

from collections.abc import Callable, Generator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bus import wire
from bus.script import joined
from bus.telemetry.logging import logger
from gpuworker import pipe
from gpuworker.engine import (
    Block,
    Checkpoint,
    Completeness,
    Done,
    Engine,
    EngineJob,
    Event,
    Mark,
    Pause,
    Progress,
)
from gpuworker.host.failures import checkpoint_message, engine_failed
from gpuworker.host.marks import cut_at_marks, valid_marks
from gpuworker.host.schedule import STARVES_S
from gpuworker.watermark import Watermark

log = logger(__name__)

#: Most PCM of one job that may be made and not yet be stored on the bus.
WINDOW_BYTES: Final = 256 << 10
#: A stream without a block yet counts as one that runs dry so long after its arrival: see `schedule`.
COMFORT_S: Final = 0.3
#: Fields that a request and an engine's job have in common: a new one on both sides needs no other list.
_REQUEST_FIELDS: Final = tuple(
    name for name in wire.EngineRequest.__struct_fields__ if name in EngineJob.__dataclass_fields__
)

Send = Callable[[bytes, bool], None]


class NotFinite(ValueError):
    """NaN or infinity in a block: the model has broken, whatever it claims."""


class WatermarkFailed(Exception):
    """A watermark raised, or made something else than the audio that it was given."""


class Pace:
    """How far one stream is ahead of its listener. Times are of one monotonic clock, passed in."""

    __slots__ = ("_first_at", "_made_s", "dry_at")

    def __init__(self, arrived_at: float) -> None:
        self._first_at: float | None = None
        self._made_s = 0.0
        #: The instant at which the listener runs dry.
        self.dry_at = arrived_at + COMFORT_S

    def made(self, seconds: float, now: float) -> None:
        """Count `seconds` of audio that have just been made."""
        if self._first_at is None:
            self._first_at = now
        self._made_s += seconds
        self.dry_at = self._first_at + self._made_s

    def slack_s(self, now: float) -> float:
        """Seconds until the listener runs dry; negative if it is dry."""
        return self.dry_at - now


class Member:
    """One job in a group."""

    __slots__ = (
        "arrived_at",
        "handle",
        "is_cancelled",
        "is_done",
        "job",
        "next_frame",
        "outstanding_bytes",
        "pace",
        "watermark",
    )

    def __init__(self, handle: int, job: EngineJob, arrived_at: float, watermark: Watermark | None = None) -> None:
        """`watermark`: to put into its audio."""
        self.watermark = watermark
        self.handle = handle
        self.job = job
        self.arrived_at = arrived_at
        self.pace = Pace(arrived_at)
        #: First frame that has not been sent.
        self.next_frame = job.start_frame
        #: PCM sent and not yet stored on the bus.
        self.outstanding_bytes = 0
        self.is_done = False
        self.is_cancelled = False

    @property
    def is_over(self) -> bool:
        """Whether the job has ended: nothing more is sent of it."""
        return self.is_done or self.is_cancelled

    def watermarked(self, pcm: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        """The next frames of the job with its watermark, if it has one. Raises WatermarkFailed."""
        if self.watermark is None:
            return pcm
        try:
            marked = self.watermark.mark(pcm, rate_hz=rate_hz, job=self.job.id, first_frame=self.next_frame)
        except Exception as error:  # foreign code: its failure ends this job, none that shares its batch
            raise WatermarkFailed(f"the watermark failed: {type(error).__name__}: {error}") from error
        if marked.shape != pcm.shape:
            raise WatermarkFailed(f"the watermark made {marked.shape} of {pcm.shape}")
        return marked


class Group:
    """The jobs of one `generate`, from its start to its end."""

    def __init__(self, engine: Engine, members: Sequence[Member], send: Send) -> None:
        """`send(message, urgent)` sends to the worker; an urgent message must not wait for others."""
        self.engine = engine
        self.members = list(members)
        self._send = send
        self._rate_hz = engine.capabilities().rate_hz
        self._events: Generator[tuple[int, Event], None, None] | None = None
        #: The instant from which it comes before all other groups: some time after its last block, or its last job.
        self.starves_at = max(member.arrived_at for member in members) + STARVES_S

    @property
    def is_over(self) -> bool:
        """Whether all jobs have ended."""
        return all(member.is_over for member in self.members)

    @property
    def dry_at(self) -> float:
        """The instant at which the first of its listeners runs dry, on the host's clock."""
        return min((member.pace.dry_at for member in self.members if not member.is_over), default=0.0)

    @property
    def is_full(self) -> bool:
        """Whether a job must wait for credit. One slow append holds its batch back, never another group."""
        return any(member.outstanding_bytes >= WINDOW_BYTES for member in self.members if not member.is_over)

    def left(self) -> list[Member]:
        """The jobs that have not ended."""
        return [member for member in self.members if not member.is_over]

    def step(self, now: float) -> float:
        """Take one event of the engine. Returns seconds to pause (0: none).

        Raises any exception of the engine, OutOfMemory and Rejected included, but never StopIteration.
        """
        if self._events is None:
            self._events = self.engine.generate([member.job for member in self.members])
        found = next(self._events, None)
        if found is None:
            self.fail(engine_failed("the engine ended before the job was done"))
            return 0.0
        member, event = self.members[found[0]], found[1]
        if member.is_over:
            return 0.0
        match event:
            case Block():
                self._on_block(member, event, now)
            case Pause(seconds=seconds):
                return seconds
            case Progress(phase=phase, done=done, total=total):
                self._send_control(member, pipe.Progress(phase, done, total))
            case Checkpoint():
                message = checkpoint_message(event)
                member.is_done = isinstance(message, pipe.Failed)
                self._send_control(member, message)
            case Done(facts=facts, completeness=completeness, skipped=skipped):
                member.is_done = True
                spans = [wire.Skipped(start=start, length=end - start) for start, end in skipped]
                is_verified = completeness == Completeness.WORDS
                self._send_control(member, pipe.Done(dict(facts), is_verified, spans[: wire.MAX_SKIPPED]))
        return 0.0

    def _on_block(self, member: Member, block: Block, now: float) -> None:
        pcm = block.pcm
        num_early = member.next_frame - block.first_frame
        if num_early > 0:
            pcm = pcm[num_early:]
        elif num_early < 0:
            error = f"a block begins at frame {block.first_frame}, not {member.next_frame}"
            self.fail(engine_failed(error), member)
            return
        num_frames = len(pcm)
        if not num_frames:
            return
        try:
            data = to_s16le(member.watermarked(pcm, self._rate_hz))
        except (NotFinite, WatermarkFailed) as error:
            self.fail(engine_failed(f"block at frame {block.first_frame}: {error}"), member)
            return
        is_first = member.next_frame == member.job.start_frame
        if block.marks:
            self._send_marked(member, block.marks, data, num_frames, is_first)
        else:
            self._send(pipe.encode_audio(member.handle, member.next_frame, data), is_first)
        member.next_frame += num_frames
        member.outstanding_bytes += len(data)
        self.starves_at = now + STARVES_S
        member.pace.made(num_frames / self._rate_hz, now)

    def _send_marked(self, member: Member, marks: Sequence[Mark], data: bytes, num_frames: int, is_first: bool) -> None:
        """Send `data`, the next `num_frames` of the job, with those of `marks` that begin in it."""
        frame_bytes = len(data) // num_frames
        valid, num_dropped = valid_marks(marks, member.next_frame, num_frames, len(member.job.input))
        num_dropped += len(valid)
        begin = 0
        for first_frame, count, within in cut_at_marks(valid, member.next_frame, num_frames):
            end = begin + count * frame_bytes
            self._send(pipe.encode_audio(member.handle, first_frame, data[begin:end], within), is_first)
            begin = end
            num_dropped -= len(within)
        if num_dropped:
            log.warning("marks.dropped", job=member.job.id, marks=num_dropped, frame=member.next_frame)

    def fail(self, failed: pipe.Failed | pipe.AttemptFailed, only: Member | None = None) -> None:
        """End one job, or every job that has not ended, with `failed`."""
        for member in self.left() if only is None else [only]:
            member.is_done = True
            self._send_control(member, failed)

    def _send_control(self, member: Member, message: pipe.ControlMessage) -> None:
        self._send(pipe.encode_control(member.handle, message), True)

    def cancel(self, member: Member) -> None:
        """End a job without another message; the engine drops it at its next step."""
        member.is_cancelled = True
        member.job.cancel.cancelled = True

    def close(self) -> None:
        """Free the group's device memory. Raises any exception of the engine's own clean-up."""
        if self._events is not None:
            self._events.close()
            self._events = None


def engine_job(start: pipe.Start, increments: Sequence[bytes] = ()) -> EngineJob:
    """The engine's view of a job: every field that `EngineJob` has in common with the request, and where to begin."""
    request = {name: getattr(start.request, name) for name in _REQUEST_FIELDS}
    if start.request.script:
        request["input"] = joined(start.request.script)
    return EngineJob(
        **request,
        start_frame=start.start_frame,
        attempt=start.attempt,
        checkpoint=start.checkpoint,
        increments=increments,
    )


def to_s16le(pcm: NDArray[np.float32]) -> bytes:
    """float32 (frames, channels) in [-1, 1] to interleaved s16le.

    A sample is `rint(32768 x)`, clipped to [-32768, 32767], so n/32768 comes back as n for every 16-bit n.

    Raises:
        NotFinite: with how many samples are not, and where the first one is.
    """
    scaled = pcm * np.float32(32768.0)
    # The sum is finite exactly if all samples are (|scaled| is far from overflow): one pass, no temporary array.
    if not np.isfinite(scaled.sum()):
        bad = ~np.isfinite(pcm)
        if bad.any():
            frame = int(np.argwhere(bad)[0][0])
            raise NotFinite(f"{int(bad.sum())} samples are not finite, the first at frame {frame}")
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768.0, 32767.0, out=scaled)
    return scaled.astype("<i2").tobytes()
