"""Every request with what its client received, checked against the log of its job. Pure: clients and readers feed it.

lost      an accepted job that has no end, or an end that its request does not explain, or lacks audio
wrong     a sample that differs from the reference, at a client or in the log; a checksum that is not the audio's
doubled   a block or frame twice, an entry after the end, two ends
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bus import wire
from ops.chaos.requests import Request
from ops.chaos.samples import Reference

Harm = Literal["lost", "wrong", "doubled"]


@dataclass(frozen=True, slots=True)
class Damage:
    """One harm done to one job."""

    what: Harm
    job: str
    detail: str


@dataclass(slots=True)
class ClientRecord:
    """The progress of one client with its request. Times are monotonic seconds."""

    request: Request
    #: "" until a gateway has answered with it.
    job: str = ""
    #: Whether a gateway has confirmed the job.
    accepted: bool = False
    #: (when, bytes received so far) at each arrival.
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    num_bytes: int = 0
    #: Whether the response body ended as a complete one does.
    whole: bool = False
    #: Offset of the first byte that differs from the reference.
    wrong_at: int | None = None
    #: Reconnects after the connection was cut.
    resumed: int = 0
    #: Status and code of each refusal, and types of connection errors, oldest first.
    refused: list[str] = field(default_factory=list)
    #: The refusal that ended this request, unless it says how its job ended.
    denied: str = ""
    #: Why the client stopped waiting; "" if it did not.
    gave_up: str = ""

    def take(self, now_s: float, data: bytes, reference: Reference) -> None:
        """Check and count `data`, the next bytes of the audio."""
        if self.wrong_at is None:
            self.wrong_at = reference.wrong_at(self.num_bytes, data)
        self.num_bytes += len(data)
        self.arrivals.append((now_s, self.num_bytes))

    def arrived_at(self, num_bytes: int) -> float | None:
        """When byte number `num_bytes`, from 0, arrived; None if it never did."""
        return next((at for at, so_far in self.arrivals if so_far > num_bytes), None)


@dataclass(frozen=True, slots=True)
class CheckedEntry:
    """One entry of a log, read back and compared with the reference."""

    seq: int
    kind: str
    #: For a block: its number, its first frame, and how many frames it has.
    block: int = 0
    frame: int = 0
    frames: int = 0
    #: Running checksum of all PCM up to here: the one stored in the entry, and the one computed from the blocks.
    stored_crc32: int = 0
    crc32: int = 0
    #: Offset of the first wrong byte of its PCM, from the beginning of the log.
    wrong_at: int | None = None
    started: wire.Started | None = None
    #: For `done`.
    done: wire.Done | None = None
    #: For the other ends: the reason.
    why: str = ""


def expected_frames(request: Request, reference: Reference) -> int:
    """Number of frames that the complete audio of `request` has."""
    if reference.num_bytes is not None:
        return reference.num_bytes // reference.frame_bytes
    return max(1, round(request.seconds * reference.rate_hz))


def judge_log(
    job: str, entries: Sequence[CheckedEntry], request: Request | None, reference: Reference | None
) -> list[Damage]:
    """All damage in the log of one accepted job. `request` is None for a job whose client is not known."""
    found = [*_judge_sequence(job, entries), *_judge_samples(job, entries)]
    ends = [entry for entry in entries if entry.kind in wire.ENDS]
    if not ends:
        return [*found, Damage("lost", job, "has no end")]
    if len(ends) > 1:
        found.append(Damage("doubled", job, f"{len(ends)} ends: {', '.join(end.kind for end in ends)}"))
    if entries[-1].kind not in wire.ENDS:
        found.append(Damage("doubled", job, f"{entries[-1].kind} after the end"))
    end = ends[0]
    if request is not None and end.kind not in request.valid_ends:
        valid = " or ".join(sorted(request.valid_ends))
        found.append(Damage("lost", job, f"ended as {end.kind}, {request.behaviour} should be {valid}: {end.why}"))
    if end.kind == "done":
        found += _judge_length(
            job, entries, end, expected_frames(request, reference) if request and reference else None
        )
    return found


def surplus(jobs: Collection[str], requested: Collection[str]) -> list[Damage]:
    """One damage for each accepted job without a request: some request made two jobs."""
    return [Damage("doubled", job, "has no request") for job in jobs if job not in requested]


def _judge_sequence(job: str, entries: Sequence[CheckedEntry]) -> list[Damage]:
    """Each block follows the one before, without a gap or an overlap."""
    found, block, frame = [], 0, 0
    for entry in entries:
        if entry.kind != "block":
            continue
        detail = f"block {entry.block} frame {entry.frame}, due {block} {frame}"
        if entry.block < block or entry.frame < frame:
            found.append(Damage("doubled", job, detail))
        elif entry.block > block or entry.frame > frame:
            found.append(Damage("lost", job, detail))
        block, frame = entry.block + 1, entry.frame + entry.frames
    return found


def _judge_samples(job: str, entries: Sequence[CheckedEntry]) -> list[Damage]:
    for entry in entries:
        if entry.wrong_at is not None:
            return [Damage("wrong", job, f"byte {entry.wrong_at} in its log, entry {entry.seq}")]
        if entry.stored_crc32 != entry.crc32:
            detail = f"entry {entry.seq} has crc {entry.stored_crc32:08x}, its audio {entry.crc32:08x}"
            return [Damage("wrong", job, detail)]
    return []


def _judge_length(job: str, entries: Sequence[CheckedEntry], end: CheckedEntry, expected: int | None) -> list[Damage]:
    found = []
    frames = sum(entry.frames for entry in entries if entry.kind == "block")
    if expected is not None and frames != expected:
        found.append(Damage("lost" if frames < expected else "doubled", job, f"{frames} frames, should be {expected}"))
    if end.done is not None and (end.done.frames != frames or end.done.crc32 != f"{end.crc32:08x}"):
        detail = f"done says {end.done.frames} frames {end.done.crc32}, the log has {frames}"
        found.append(Damage("wrong", job, detail))
    return found


def judge_client(record: ClientRecord, end: str, reference: Reference | None) -> list[Damage]:
    """All damage that one client saw. `end` is the kind of its job's end, "" for a job that was never accepted."""
    request = record.request
    job, client = record.job or f"request {request.number}", f"a {request.behaviour} client"
    if record.wrong_at is not None:
        return [Damage("wrong", job, f"{client} received byte {record.wrong_at} wrong")]
    if record.denied and request.behaviour not in {"wrong", "clock"}:
        return [Damage("lost" if record.accepted else "wrong", job, f"{client} was refused: {record.denied}")]
    if record.accepted and not end:
        return [Damage("lost", job, "a gateway accepted it, and it has no log")]
    if request.behaviour == "hang_up" or end != "done" or reference is None:
        return []
    missing = expected_frames(request, reference) * reference.frame_bytes - record.num_bytes
    if missing > 0:
        return [Damage("lost", job, f"{client} lacks {missing} bytes of a done job: {record.gave_up}")]
    if missing < 0:
        return [Damage("doubled", job, f"{client} received {-missing} bytes too many")]
    return [] if record.whole else [Damage("lost", job, f"{client} never received the end: {record.gave_up}")]
