"""Every request and what became of it; what its log holds against what must be in it. Pure: fed by clients and readers.

lost      an accepted job that has no end, or ended in a way that nothing in its request explains, or lacks audio
wrong     a sample that is not as it must be, in a client's ear or in the log; a checksum that is not the audio's
doubled   a block or frame twice, an entry after the end, two ends
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bus import wire
from ops.chaos.orders import Order
from ops.chaos.samples import Truth


@dataclass(frozen=True, slots=True)
class Damage:
    #: lost, wrong or doubled.
    what: str
    job: str
    detail: str


@dataclass(slots=True)
class Heard:
    """What one client made of one order. Times are monotonic seconds."""

    order: Order
    #: "" until a gateway told it.
    job: str = ""
    #: Whether a gateway said that it has the job.
    accepted: bool = False
    #: (when, bytes heard so far) at each arrival.
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    num_bytes: int = 0
    #: The body ended as a whole one does.
    whole: bool = False
    #: First byte that was not as it must be.
    wrong_at: int | None = None
    #: How often the client came back after its connection was cut.
    resumed: int = 0
    #: Statuses of refusals, the last one last.
    refused: list[str] = field(default_factory=list)
    #: A refusal that was the last word, if its job has not ended so.
    denied: str = ""
    #: The client ran out of patience with this.
    gave_up: str = ""

    def take(self, now_s: float, data: bytes, truth: Truth) -> None:
        """Check and count `data`, the next bytes of the audio."""
        if self.wrong_at is None:
            self.wrong_at = truth.wrong_at(self.num_bytes, data)
        self.num_bytes += len(data)
        self.arrivals.append((now_s, self.num_bytes))

    def heard_at(self, num_bytes: int) -> float | None:
        """When byte number `num_bytes` (from 0) was there; None if it never was."""
        return next((at for at, so_far in self.arrivals if so_far > num_bytes), None)


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a log, as read back."""

    seq: int
    kind: str
    #: Of a block: its number, its first frame, how many frames.
    block: int = 0
    frame: int = 0
    frames: int = 0
    #: Running checksum of all PCM up to here, as the entry tells it and as it was computed.
    told_crc32: int = 0
    crc32: int = 0
    #: First byte of its PCM that is wrong, counted from the log's beginning.
    wrong_at: int | None = None
    started: wire.Started | None = None
    #: Of `done`.
    done: wire.Done | None = None
    #: Of `failed`.
    why: str = ""


def right_frames(order: Order, truth: Truth) -> int:
    """How long the whole audio of `order` must be."""
    if truth.num_bytes is not None:
        return truth.num_bytes // truth.frame_bytes
    return max(1, round(order.seconds * truth.rate_hz))


def judge_log(job: str, lines: Sequence[Line], order: Order | None, truth: Truth | None) -> list[Damage]:
    """All that is wrong with one accepted job's log. `order` is None for a job whose client is not known."""
    found = [*_order_of(job, lines), *_samples_of(job, lines)]
    ends = [line for line in lines if line.kind in wire.ENDS]
    if not ends:
        return [*found, Damage("lost", job, "has no end")]
    if len(ends) > 1:
        found.append(Damage("doubled", job, f"{len(ends)} ends: {', '.join(end.kind for end in ends)}"))
    if lines[-1].kind not in wire.ENDS:
        found.append(Damage("doubled", job, f"{lines[-1].kind} after the end"))
    end = ends[0]
    if order is not None and end.kind not in order.may_end:
        wanted = " or ".join(sorted(order.may_end))
        found.append(Damage("lost", job, f"ended as {end.kind}, {order.manner} should be {wanted}: {end.why}"))
    if end.kind == "done":
        found += _whole(job, lines, end, right_frames(order, truth) if order and truth else None)
    return found


def surplus(jobs: Collection[str], asked: Collection[str]) -> list[Damage]:
    """Of all jobs that were accepted, those that no request stands for: somebody's was made twice."""
    return [Damage("doubled", job, "nobody asked for it") for job in jobs if job not in asked]


def _order_of(job: str, lines: Sequence[Line]) -> list[Damage]:
    """Blocks one after the other, each frame once."""
    found, block, frame = [], 0, 0
    for line in lines:
        if line.kind != "block":
            continue
        if line.block < block or line.frame < frame:
            found.append(Damage("doubled", job, f"block {line.block} frame {line.frame}, due {block} {frame}"))
        elif line.block > block or line.frame > frame:
            found.append(Damage("lost", job, f"block {line.block} frame {line.frame}, due {block} {frame}"))
        block, frame = line.block + 1, line.frame + line.frames
    return found


def _samples_of(job: str, lines: Sequence[Line]) -> list[Damage]:
    for line in lines:
        if line.wrong_at is not None:
            return [Damage("wrong", job, f"byte {line.wrong_at} in its log, entry {line.seq}")]
        if line.told_crc32 != line.crc32:
            return [Damage("wrong", job, f"entry {line.seq} tells crc {line.told_crc32:08x}, it is {line.crc32:08x}")]
    return []


def _whole(job: str, lines: Sequence[Line], end: Line, frames: int | None) -> list[Damage]:
    found = []
    heard = sum(line.frames for line in lines if line.kind == "block")
    if frames is not None and heard != frames:
        found.append(Damage("lost" if heard < frames else "doubled", job, f"{heard} frames, should be {frames}"))
    if end.done is not None and (end.done.frames != heard or end.done.crc32 != f"{end.crc32:08x}"):
        found.append(Damage("wrong", job, f"done tells {end.done.frames} frames {end.done.crc32}, the log has {heard}"))
    return found


def judge_client(heard: Heard, end: str, truth: Truth | None) -> list[Damage]:
    """What one client was denied. `end` is how its job ended, "" for one that was never accepted."""
    job, order = heard.job or f"order {heard.order.number}", heard.order
    if heard.wrong_at is not None:
        return [Damage("wrong", job, f"a {order.manner} client heard byte {heard.wrong_at} wrong")]
    if heard.denied and order.manner not in {"wrong", "clock"}:
        return [Damage("lost" if heard.accepted else "wrong", job, f"a {order.manner} client was told {heard.denied}")]
    if heard.accepted and not end:
        return [Damage("lost", job, "a gateway accepted it, and it has no log")]
    if order.manner == "hang_up" or end != "done" or truth is None:
        return []
    missing = right_frames(order, truth) * truth.frame_bytes - heard.num_bytes
    if missing > 0:
        return [Damage("lost", job, f"a {order.manner} client lacks {missing} bytes of a done job: {heard.gave_up}")]
    if missing < 0:
        return [Damage("doubled", job, f"a {order.manner} client heard {-missing} bytes too many")]
    return [] if heard.whole else [Damage("lost", job, f"a {order.manner} client never saw the end: {heard.gave_up}")]
