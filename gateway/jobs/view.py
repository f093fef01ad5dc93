"""A job as the native API shows it, made from its birth, its lease and its last entry.

The structs are the schema in `/openapi.json` too, so that document and response cannot drift apart.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bus import wire
from bus.errors import Gone, JobError, LogDamaged
from bus.jobs import lookup
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.jobs.status import Status
from bus.marking import Marking
from bus.quality import Quality
from bus.wire import State
from gateway.jobs.pcm_reader import failure

Count = Annotated[int, Meta(ge=0)]
#: The calendar's first and last second, in Unix seconds.
_FIRST_S: Final = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST_S: Final = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


class Links(msgspec.Struct, frozen=True):
    """Paths of a job's resources; `blocks` is a template with `{n}`."""

    self: str
    events: str
    audio: str
    marks: str
    blocks: str

    @classmethod
    def of(cls, job_id: str) -> "Links":
        """The links of the job `job_id`."""
        base = f"/v1/jobs/{job_id}"
        return cls(base, f"{base}/events", f"{base}/audio", f"{base}/marks", f"{base}/blocks/{{n}}")


class AcceptedJob(msgspec.Struct, frozen=True):
    """The response to a job's acceptance."""

    id: str
    state: State
    links: Links

    @classmethod
    def of(cls, birth: wire.Birth, state: State) -> "AcceptedJob":
        """The response for a job with this birth, now in `state`."""
        return cls(birth.job.id, state, Links.of(birth.job.id))


class ShownProgress(msgspec.Struct, frozen=True):
    """The engine's progress; `total` is null if the engine does not know it."""

    phase: str
    done: float
    total: float | None


class ShownError(msgspec.Struct, frozen=True):
    """The reason why a job ended other than `done`."""

    code: str
    message: str
    path: str
    retryable: bool


class ShownJob(msgspec.Struct, kw_only=True):
    """One job: state, progress, and where to find its audio."""

    id: str
    state: State
    model: str
    version: str
    voice: str
    #: SHA-256 of the files of each voice that it speaks with; absent if voices are part of their engine.
    voice_digests: dict[str, str] | UnsetType = UNSET
    lane: str
    #: How its audio is marked as synthetic.
    marking: Marking
    #: RFC 3339, UTC.
    accepted_at: str
    expires_at: str | None
    #: Block entries in the log so far.
    blocks: Count
    frames: Count
    #: Seconds of audio so far.
    seconds: float
    #: The worker that took the job last.
    worker: str | None
    attempts: Count
    links: Links
    #: While it waits: jobs ahead of it, and seconds until it starts, absent while unknown.
    position: Count | UnsetType = UNSET
    eta_s: float | UnsetType = UNSET
    #: While it runs and makes no audio on purpose: `storage`, until there is room for it.
    waiting_for: str | UnsetType = UNSET
    progress: ShownProgress | UnsetType = UNSET
    #: Once it is done: CRC-32 of all PCM, 8 hexadecimal digits; the engine's facts; durations.
    crc32: str | UnsetType = UNSET
    engine: dict[str, Any] | UnsetType = UNSET
    timings: wire.Timings | UnsetType = UNSET
    #: Once speech is done: `words` if all words of the input were spoken, `unverified` if the engine cannot know; and
    #: what was not spoken, for it has no letter or digit and the voice no name for it.
    completeness: str | UnsetType = UNSET
    skipped: list[wire.Skipped] | UnsetType = UNSET
    #: Once it is done, unless its worker had no time to measure: measures of its audio, and those beyond their limits.
    quality: Quality | UnsetType = UNSET
    #: Once it has ended other than `done`.
    error: ShownError | UnsetType = UNSET


def when(seconds: float) -> str:
    """Unix seconds as RFC 3339, UTC; the first or the last second of the calendar for those outside of it."""
    seconds = min(max(seconds, _FIRST_S), _LAST_S)
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


async def view(bus: Bus, found: Status) -> ShownJob:
    """One job, without its queue position. Raises Unreachable, Gone."""
    job, lease, tail = found.birth.job, found.lease, found.tail
    shown = ShownJob(
        id=job.id,
        state=found.state,
        model=job.model,
        version=job.version,
        voice=job.voice,
        voice_digests=job.voice_digests or UNSET,
        lane=job.lane,
        marking=job.marking,
        accepted_at=when(found.birth.accepted_at),
        expires_at=when(job.expires_at.timestamp()) if job.expires_at else None,
        blocks=found.position.block,
        frames=found.position.frame,
        seconds=await _seconds(bus, found),
        worker=lease.worker if lease and lease.worker else None,
        attempts=lease.attempt if lease else 0,
        links=Links.of(job.id),
    )
    if lease is not None and lease.waiting_for and found.state == State.RUNNING:
        shown.waiting_for = lease.waiting_for
    if tail is not None:
        _add_tail(shown, tail)
    return shown


def _add_tail(shown: ShownJob, tail: Entry) -> None:
    """Add the fields that the log's last entry has."""
    if tail.kind == "progress":
        progress = wire.decode(wire.Progress, tail.payload)
        shown.progress = ShownProgress(progress.phase, progress.done, progress.total)
    elif tail.kind == "done":
        done = wire.decode(wire.Done, tail.payload)
        shown.crc32 = done.crc32
        shown.engine = done.engine
        shown.completeness = done.completeness or UNSET
        shown.skipped = done.skipped or UNSET
        shown.quality = UNSET if done.quality is None else done.quality
        shown.timings = UNSET if done.timings is None else done.timings
    elif tail.is_end:
        shown.error = _error(failure(tail))


def _error(error: JobError) -> ShownError:
    return ShownError(error.code, str(error), error.path, error.retryable)


async def _seconds(bus: Bus, found: Status) -> float:
    """Seconds of audio in the log so far."""
    if not found.position.frame:
        return 0.0
    if found.tail is not None and found.tail.kind == "done":
        return wire.decode(wire.Done, found.tail.payload).seconds
    key = bus.subjects.job_key(found.birth.job.tenant, found.birth.job.id)
    try:
        media = await lookup.media(bus, key, found.birth_seq)
    except (Gone, LogDamaged) as error:
        if not (found.is_ended or isinstance(error, LogDamaged)):
            raise
        return 0.0  # its audio made room for its end (`bus.jobs.last_resort`): none is left
    return round(found.position.frame / media[0], 3) if media else 0.0
