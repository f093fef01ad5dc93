"""Jobs that share one generator of one engine, inside the engine host.

A group turns an engine's events into frames for the worker: trims what a resume began too early, converts to s16le,
refuses audio that is not finite, and counts what the worker has not yet put on the bus (its window).
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from bus import wire
from bus.telemetry.logging import logger
from gpuworker import pipe
from gpuworker.engine import Block, Checkpoint, Done, Engine, EngineJob, Event, Mark, Pause, Progress
from gpuworker.host.marks import shares, within
from gpuworker.host.pcm import NotFinite, to_s16le
from gpuworker.host.schedule import Pace

log = logger(__name__)

#: Most PCM of one job that may be made and not yet be on the bus.
WINDOW_BYTES: Final = 256 << 10

#: Fields that a request and an engine's job have in common: a new one on both sides needs no other list.
_REQUEST_FIELDS: Final = tuple(
    name for name in wire.EngineRequest.__struct_fields__ if name in EngineJob.__dataclass_fields__
)

Send = Callable[[bytes, bool], None]


class Member:
    """One job in a group."""

    __slots__ = ("cancelled", "done", "handle", "job", "next_frame", "outstanding_bytes", "pace")

    def __init__(self, handle: int, job: EngineJob, came_at: float) -> None:
        self.handle, self.job, self.pace = handle, job, Pace(came_at)
        self.next_frame = job.start_frame
        self.outstanding_bytes = 0
        self.done = self.cancelled = False

    @property
    def over(self) -> bool:
        return self.done or self.cancelled


class Group:
    def __init__(self, engine: Engine, members: Sequence[Member], send: Send) -> None:
        """`send(frame, urgent)` hands bytes to the worker; urgent ones must not wait for company."""
        self.engine, self.members, self._send = engine, list(members), send
        capabilities = engine.capabilities()
        self._rate_hz, self._resume = capabilities.rate_hz, capabilities.resume
        self._events: Generator[tuple[int, Event], None, None] | None = None

    @property
    def over(self) -> bool:
        return all(member.over for member in self.members)

    @property
    def dry_at(self) -> float:
        """When the first of its listeners runs dry."""
        return min((member.pace.dry_at for member in self.members if not member.over), default=0.0)

    @property
    def is_full(self) -> bool:
        """Whether a job must wait for the bus. One slow append holds its batch back, never another group."""
        return any(member.outstanding_bytes >= WINDOW_BYTES for member in self.members if not member.over)

    def step(self, now: float) -> float:
        """One event. Returns seconds to pause (0: none). Raises what the engine raises; StopIteration never leaves."""
        if self._events is None:
            self._events = self.engine.generate([member.job for member in self.members])
        found = next(self._events, None)
        if found is None:
            for member in self.members:
                if not member.over:
                    self.fail(member, "engine_failed", "the engine ended without saying that the job is done")
            return 0.0
        member, event = self.members[found[0]], found[1]
        if member.over:
            return 0.0
        match event:
            case Block():
                self._block(member, event, now)
            case Pause(seconds=seconds):
                return seconds
            case Progress(phase=phase, done=done, total=total):
                self._send_control(member, pipe.Progress(phase, done, total))
            case Checkpoint(frame=frame, data=data):
                self._send_control(member, pipe.Checkpoint(frame, data))
            case Done(facts=facts):
                member.done = True
                self._send_control(member, pipe.Done(dict(facts)))
        return 0.0

    def _block(self, member: Member, block: Block, now: float) -> None:
        pcm = block.pcm
        early = member.next_frame - block.first_frame
        if early > 0:
            pcm = pcm[early:]
        elif early < 0:
            self.fail(member, "engine_failed", f"a block begins at frame {block.first_frame}, not {member.next_frame}")
            return
        frames = len(pcm)
        if not frames:
            return
        try:
            data = to_s16le(pcm)
        except NotFinite as error:
            self.fail(member, "engine_failed", f"block at frame {block.first_frame}: {error}")
            return
        is_first = member.next_frame == member.job.start_frame
        if block.marks:
            self._marked(member, block.marks, data, frames, is_first)
        else:
            self._send(pipe.encode_audio(member.handle, member.next_frame, data), is_first)
        member.next_frame += frames
        member.outstanding_bytes += len(data)
        member.pace.made(frames / self._rate_hz, now)

    def _marked(self, member: Member, marks: Sequence[Mark], data: bytes, frames: int, is_first: bool) -> None:
        """Send `data`, the next `frames` of the job, and those of `marks` that are in it."""
        frame_bytes = len(data) // frames
        good, lost = within(marks, member.next_frame, frames, len(member.job.input))
        begin, told = 0, 0
        for first_frame, count, share in shares(good, member.next_frame, frames):
            end = begin + count * frame_bytes
            self._send(pipe.encode_audio(member.handle, first_frame, data[begin:end], share), is_first)
            begin, told = end, told + len(share)
        lost += len(good) - told
        if lost:
            log.warning("marks.dropped", job=member.job.id, marks=lost, frame=member.next_frame)

    def fail(self, member: Member, code: str, message: str, path: str = "", traceback: str = "") -> None:
        member.done = True
        self._send_control(member, pipe.Failed(code, message, path, traceback))

    def _send_control(self, member: Member, message: pipe.ControlMessage) -> None:
        self._send(pipe.encode_control(member.handle, message), True)

    def cancel(self, member: Member) -> None:
        member.cancelled = member.job.cancel.cancelled = True

    def close(self) -> None:
        """Free what the group holds on the device. Raises what the engine's own clean-up raises."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def halves(self) -> list["Group"]:
        """Two groups of the jobs that are left, each beginning where its job stands."""
        left = [member for member in self.members if not member.over]
        for member in left:
            member.job = restarted(member.job, member.next_frame)
        middle = (len(left) + 1) // 2
        return [Group(self.engine, part, self._send) for part in (left[:middle], left[middle:]) if part]


def restarted(job: EngineJob, frame: int) -> EngineJob:
    fields: dict[str, Any] = {name: getattr(job, name) for name in job.__dataclass_fields__}
    return EngineJob(**{**fields, "start_frame": frame})


def engine_job(start: pipe.Start) -> EngineJob:
    """The engine's view of a job: every field that `EngineJob` has in common with the request, and where to begin."""
    request = {name: getattr(start.request, name) for name in _REQUEST_FIELDS}
    return EngineJob(**request, start_frame=start.start_frame, attempt=start.attempt, checkpoint=start.checkpoint)
