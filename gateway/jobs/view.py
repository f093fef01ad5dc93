"""A job as the native API shows it, made of its birth, its lease and its last entry."""

from datetime import UTC, datetime
from typing import Any

from bus import wire
from bus.errors import JobError
from bus.jobs import lookup as find
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.jobs.status import State, Status
from gateway.jobs.pcm_reader import failure
from gateway.jobs.queue_position import Place


def links(job_id: str) -> dict[str, str]:
    base = f"/v1/jobs/{job_id}"
    return {
        "self": base,
        "events": f"{base}/events",
        "audio": f"{base}/audio",
        "marks": f"{base}/marks",
        "blocks": f"{base}/blocks/{{n}}",
    }


def when(seconds: float) -> str:
    """Unix seconds as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def accepted(birth: wire.Birth, state: State) -> dict[str, Any]:
    """What the acceptance of a job answers."""
    return {"id": birth.job.id, "state": state, "links": links(birth.job.id)}


async def view(bus: Bus, found: Status) -> dict[str, Any]:
    """All that is known of one job but its place in the queue. Raises Unreachable, Gone."""
    job, lease, tail = found.birth.job, found.lease, found.tail
    shown: dict[str, Any] = {
        "id": job.id,
        "state": found.state,
        "model": job.model,
        "version": job.version,
        "voice": job.voice,
        "lane": job.lane,
        "accepted_at": when(found.birth.accepted_at),
        "expires_at": when(job.expires_at.timestamp()) if job.expires_at else None,
        "blocks": found.position.block,
        "frames": found.position.frame,
        "seconds": await _seconds(bus, found),
        "worker": lease.worker if lease and lease.worker else None,
        "attempts": lease.attempt if lease else 0,
    }
    if tail is not None:
        shown |= _of_tail(tail)
    shown["links"] = links(job.id)
    return shown


def with_place(shown: dict[str, Any], place: Place | None) -> dict[str, Any]:
    if place is not None:
        shown["position"] = place.position
        if place.eta_s is not None:
            shown["eta_s"] = place.eta_s
    return shown


def _of_tail(tail: Entry) -> dict[str, Any]:
    if tail.kind == "progress":
        progress = wire.decode(wire.Progress, tail.payload)
        return {"progress": {"phase": progress.phase, "done": progress.done, "total": progress.total}}
    if tail.kind == "done":
        done = wire.decode(wire.Done, tail.payload)
        shown: dict[str, Any] = {"crc32": done.crc32, "engine": done.engine}
        if done.timings is not None:
            shown["timings"] = done.timings
        return shown
    return {"error": _error(failure(tail))} if tail.is_end else {}


def _error(error: JobError) -> dict[str, Any]:
    return {"code": error.code, "message": str(error), "path": error.path, "retryable": error.retryable}


async def _seconds(bus: Bus, found: Status) -> float:
    """Of audio so far."""
    if not found.position.frame:
        return 0.0
    if found.tail is not None and found.tail.kind == "done":
        return wire.decode(wire.Done, found.tail.payload).seconds
    name = bus.subjects.job_key(found.birth.job.tenant, found.birth.job.id)
    media = await find.media(bus, name, found.birth_seq)
    return round(found.position.frame / media[0], 3) if media else 0.0
