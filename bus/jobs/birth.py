"""How a job is completed at its birth: its deadline and its digest. Pure. Protocol rules 3 and 4.

The gateway that accepts a job does this, or the worker that pulls a job published without a gateway.
"""

import hashlib
import math
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from bus import wire
from bus.marking import DEFAULT_MARKING
from bus.voices import CLIP_INPUTS

#: Deadlines of jobs that name none, seconds after acceptance, by lane.
DEFAULT_DEADLINE_S: Final = {"interactive": 3600.0, "standard": 12 * 3600.0, "batch": 12 * 3600.0}
_BARE: Final = wire.Job(input="")
_IDENTITY: Final = {*wire.Job.__struct_fields__} - {
    "id",
    "client",
    "expires_at",
    "first_audio_deadline_s",
    "max_bytes",
    "requested",
}
_canonical = msgspec.json.Encoder(order="deterministic")


def with_deadline(job: wire.Job, now_s: float) -> wire.Job:
    """`job` with an `expires_at`, its own or its lane's default from `now_s` (Unix seconds) on."""
    if job.expires_at is not None:
        return job
    seconds = DEFAULT_DEADLINE_S.get(job.lane, DEFAULT_DEADLINE_S["standard"])
    return msgspec.structs.replace(job, expires_at=datetime.fromtimestamp(now_s, UTC) + timedelta(seconds=seconds))


def digest(job: wire.Job) -> str:
    """SHA-256 over the fields that make a job's identity: two requests with one digest are one job.

    Id, client, deadlines and size are left out. `job` must be complete, or equal requests get different digests.
    """
    # By value: `omit_defaults` compares identities, and does not take a 0.0 that was decoded for the default.
    identity = {field: value for field in _IDENTITY if (value := getattr(job, field)) != getattr(_BARE, field)}
    return hashlib.sha256(_canonical.encode(identity)).hexdigest()


def is_repeat(job: wire.Job, born: wire.Job) -> bool:
    """Whether `job` is the request that made `born`, with the same id: by their digests, or by what was requested.

    The second holds where a default or a voice was resolved otherwise for the repeat, as after an installation, and
    where the marking of its tenant has changed.
    """
    if digest(job) == digest(born):
        return True
    languages = [each.requested.language if each.requested else "" for each in (job, born)]
    return languages[0] == languages[1] and digest(_as_requested(job)) == digest(_as_requested(born))


def _as_requested(job: wire.Job) -> wire.Job:
    job = msgspec.structs.replace(job, voice_digests={}, marking=DEFAULT_MARKING)
    sent = job.requested
    if sent is None:
        return job
    if sent.voice:  # the clip of an uploaded voice is what was resolved: a job with a clip of its own names no voice
        inputs = {name: each for name, each in job.inputs.items() if name not in CLIP_INPUTS}
        job = msgspec.structs.replace(job, inputs=inputs)
    script = [msgspec.structs.replace(turn, voice=voice) for turn, voice in zip(job.script, sent.turns, strict=False)]
    return msgspec.structs.replace(job, model=sent.model, version=sent.version, voice=sent.voice, script=script)


def new_birth(job: wire.Job, queue_seq: int, now_s: float) -> wire.Birth:
    """The birth of `job`, accepted at `now_s` (Unix seconds), whose message has sequence `queue_seq` in JOBS."""
    return wire.Birth(job=with_deadline(job, now_s), digest=digest(job), queue_seq=queue_seq, accepted_at=now_s)


def next_deadline(birth: wire.Birth, has_audio: bool) -> tuple[float, str]:
    """When the job expires if nothing more happens, Unix seconds of the bus's clock, and why. Pure.

    Infinity for a job without a deadline.
    """
    job, deadlines = birth.job, [(math.inf, "")]
    if job.expires_at is not None:
        deadlines.append((job.expires_at.timestamp(), f"not done by {job.expires_at.isoformat()}"))
    if job.first_audio_deadline_s is not None and not has_audio:
        limit_s = job.first_audio_deadline_s
        deadlines.append((birth.accepted_at + limit_s, f"no audio within {limit_s:g} s of its acceptance"))
    return min(deadlines)
