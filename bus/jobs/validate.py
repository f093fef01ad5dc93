"""The checks that every job passes before an engine sees it, wherever it came from. Pure. Protocol rules 3 and 20.

A gateway checks a request before it accepts it, and a worker checks a message before it claims it: a job may be
published without a gateway, and code behind a claim relies on these limits. A worker ignores fields that it does not
know, or the jobs of a newer gateway would all be refused.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from bus import wire
from bus.bound import Bound, SpokenText
from bus.errors import Invalid, Malformed, TooLarge
from bus.jobs import ids, inputs, scripts
from bus.options import HOPS_HEADER, MAX_DEADLINE_S, MAX_HOPS, MAX_LINGER_S, MAX_SEED
from bus.params import short, without_nulls
from bus.script import PAUSE_S
from bus.settings import BusSettings
from bus.subjects import JobSubject, is_token, token
from bus.text import num_letters

#: Integers that MessagePack, and so the pipe to the engine host, can hold.
MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1
#: Objects and arrays inside one another in `params`, `params` itself included.
MAX_DEPTH: Final = 32
#: How far the clock that set the deadline of a queued job may be ahead of the worker's.
_CLOCK_SLACK_S: Final = 60.0
#: Lengths are rounded to frames, and the shortest audio has one.
_SLACK_BYTES: Final = 64
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_KNOWN_FIELDS: Final = frozenset(wire.Job.__struct_encode_fields__)


class AudioLimit(msgspec.Struct, frozen=True):
    """The most audio that one job may make, in this deployment."""

    max_audio_s: float
    #: In bytes of PCM.
    max_bytes: int

    @classmethod
    def of(cls, settings: BusSettings) -> "AudioLimit":
        """The limit that the settings set: no job may fill more than a quarter of the store."""
        return cls(settings.max_audio_s, settings.replies_max_bytes // 4)

    def most_bytes(self, bytes_per_s: int) -> int:
        """The limit of PCM with so many bytes a second."""
        return int(min(self.max_audio_s * bytes_per_s, self.max_bytes))

    def check(self, job: wire.Job, bound: Bound | None, bytes_per_s: int) -> int:
        """The most bytes of PCM that `job` can make; 0 if its model declares no bound.

        Raises TooLarge if that is more than a job may make.
        """
        if bound is None:
            return 0
        seconds = _most_seconds(job, bound)
        most_bytes = self.most_bytes(bytes_per_s)
        if not seconds * bytes_per_s <= most_bytes:
            path = "script" if job.script else bound.path
            raise TooLarge(
                f"{path}: up to {seconds:,.0f} s of audio ({seconds * bytes_per_s:,.0f} bytes), the limit of one "
                f"job of this deployment is {most_bytes / bytes_per_s:,.0f} s ({most_bytes:,} bytes)",
                path,
            )
        return min(most_bytes, _num_bytes(seconds, bytes_per_s))

    def allowed(self, job: wire.Job, bound: Bound | None, bytes_per_s: int) -> int:
        """The bytes of PCM at which a run of `job` is ended: by its message, else by the bound of its model."""
        most_bytes = self.most_bytes(bytes_per_s)
        if job.max_bytes or bound is None:
            return min(job.max_bytes or most_bytes, most_bytes)
        return min(most_bytes, _num_bytes(min(_most_seconds(job, bound), self.max_audio_s), bytes_per_s))


def _most_seconds(job: wire.Job, bound: Bound) -> float:
    if isinstance(bound, SpokenText):
        if job.script:
            texts = ((turn.text, turn.voice or job.voice) for turn in job.script)
            return sum(bound.seconds(text, voice, job.params) + PAUSE_S for text, voice in texts)
        return bound.seconds(job.input, job.voice, job.params)
    value = job.params.get(bound.param)
    # What is no number is refused by the model's schema.
    return value if isinstance(value, int | float) else bound.default_s


def _num_bytes(seconds: float, bytes_per_s: int) -> int:
    return math.ceil(max(0.0, seconds) * bytes_per_s) + _SLACK_BYTES


class _Named(msgspec.Struct):
    """The id in a message of JOBS that need not be a job otherwise."""

    id: Any = None


def read_job(subject: JobSubject, seq: int, payload: bytes, now_s: float) -> wire.Job:
    """The job of message `seq` in JOBS. The subject is the authority; the body's copies must agree where present.

    `now_s`: Unix seconds, the bus's clock. A deadline that has passed is no fault here: it expires the job. Raises
    Malformed for bytes that do not decode, Invalid for a job that can never run.
    """
    job = _decode(payload)
    copies = {"model": job.model, "version": job.version, "lane": job.lane, "tenant": job.tenant}
    for field, value in copies.items():
        if value and value != getattr(subject, field):
            raise Invalid(f"{field}: the body says {short(value)!r}, the subject {getattr(subject, field)!r}", field)
    job = msgspec.structs.replace(
        job,
        id=job.id or f"q{seq}",
        model=subject.model,
        version=subject.version,
        lane=subject.lane,
        tenant=subject.tenant,
    )
    check_id(job.id)
    if ids.is_assigned(job.id) and job.id != f"q{seq}":
        raise Invalid(f"id: {job.id!r} is assigned by the bus, to message {job.id[1:]} of its queue", "id")
    check_job(job)
    # A newer gateway derives the id from fields that are unknown here.
    if ids.is_forged(job) and _fields(payload) <= _KNOWN_FIELDS:
        raise Invalid(f"id: {job.id!r} has the form of ids that identical requests share, and is not this job's", "id")
    if job.expires_at is not None:
        check_deadline(job.expires_at, now_s, is_queued=True)
    return job


def _decode(payload: bytes) -> wire.Job:
    """A null is an absent field. Raises Malformed."""
    try:
        job = wire.decode(wire.Job, payload)
    except Malformed:
        if b"null" not in payload:
            raise
        rest = without_nulls(wire.decode(dict[str, Any], payload))
        job = wire.decode(wire.Job, wire.encode(rest))
    if None in job.params.values():
        job = msgspec.structs.replace(job, params=without_nulls(job.params))
    return job


def usable_id(payload: bytes, seq: int) -> str:
    """The id under which the publisher of a message that is no valid job looks for its log: its own, else `q<seq>`."""
    try:
        job_id = wire.decode(_Named, payload).id
    except Malformed:
        job_id = None
    if isinstance(job_id, str) and is_token(job_id) and not ids.is_assigned(job_id):
        return job_id
    return f"q{seq}"


def check_job(job: wire.Job) -> None:
    """Check all limits that depend on the job alone. Raises Invalid, which names field, limit and value."""
    if job.script:
        scripts.check_script(job, check_input)
    else:
        check_input(job.input)
    if job.inputs:
        inputs.check_inputs(job.inputs)
    if not 0 <= job.seed <= MAX_SEED:
        raise Invalid(f"seed: must be from 0 to {MAX_SEED}, not {short(str(job.seed))}", "seed")
    if not 0 <= job.linger_s <= MAX_LINGER_S:
        raise Invalid(f"linger_s: must be from 0 to {MAX_LINGER_S:g}, not {job.linger_s:g}", "linger_s")
    deadline_s = job.first_audio_deadline_s
    if deadline_s is not None and not 0 < deadline_s <= MAX_DEADLINE_S:
        raise Invalid(
            f"first_audio_deadline_s: must be above 0 and at most {MAX_DEADLINE_S:g}, not {deadline_s:g}",
            "first_audio_deadline_s",
        )
    if job.client.key and not is_token(job.client.key):
        raise Invalid(
            f"client.key: {short(job.client.key)!r} must be 1 to 64 characters of A-Z a-z 0-9 _ -", "client.key"
        )
    if not 0 <= job.hops <= MAX_HOPS:
        raise Invalid(
            f"{HOPS_HEADER}: {short(str(job.hops))} stacks passed this request on, the limit is {MAX_HOPS}; they may "
            "be each other's upstream",
            HOPS_HEADER,
        )
    if not 0 <= job.max_bytes <= MAX_INTEGER:
        raise Invalid(f"max_bytes: must be from 0 to {MAX_INTEGER}, not {short(str(job.max_bytes))}", "max_bytes")
    _check_value(job.params, ("params",))


def check_id(job_id: str) -> None:
    """Raise Invalid unless `job_id` can be a token of a subject."""
    try:
        token(job_id)
    except ValueError as error:
        raise Invalid(f"id: {error}", "id") from error


def check_length(text: str, max_chars: int, min_letters: int = 0) -> None:
    """Raise Invalid for an input longer than its model takes, or with fewer letters."""
    if min_letters and num_letters(text) < min_letters:
        raise Invalid(
            f"input: needs at least {min_letters} letters, or {math.ceil(min_letters / 2.5)} of Han, kana or Hangul, "
            f"not {short(repr(text))}",
            "input",
        )
    if len(text) > max_chars:
        raise Invalid(
            f"input: has {len(text)} characters, the limit is {max_chars}; it begins {short(text)!r}", "input"
        )


def check_input(text: str, path: str = "input") -> None:
    """Raise Invalid for text of which no audio can be made: empty, or with control characters. `path`: its field."""
    if not text or text.isspace():
        raise Invalid(f"{path}: is empty ({short(repr(text))}), there is nothing to make audio of", path)
    control = _CONTROL.search(text)
    if control is not None:
        place, code = control.start(), ord(control[0])
        raise Invalid(f"{path}: control character U+{code:04X} at position {place}; only white space is allowed", path)


def check_deadline(due: datetime, now_s: float, *, is_queued: bool = False) -> None:
    """Raise Invalid for an `expires_at` without an offset, without a form in UTC, too far away, or past.

    `now_s`: Unix seconds, the bus's clock. `is_queued`: the job is in JOBS already. It may then be past its deadline,
    which expires it, and the clock that set the deadline may be ahead of this one.
    """
    if due.tzinfo is None:
        raise Invalid(f"expires_at: must have an offset from UTC, as in 2030-01-01T12:00:00Z, not {due}", "expires_at")
    try:
        due.astimezone(UTC)
    except OverflowError as error:
        raise Invalid(f"expires_at: {due.isoformat()} is outside the years 1 to 9999 in UTC", "expires_at") from error
    left = timedelta(seconds=due.timestamp() - now_s)
    if left <= timedelta(0) and not is_queued:
        raise Invalid(f"expires_at: {due.isoformat()} is in the past", "expires_at")
    if left > timedelta(seconds=MAX_DEADLINE_S + (_CLOCK_SLACK_S if is_queued else 0)):
        raise Invalid(
            f"expires_at: {due.isoformat()} is {left} away, at most {MAX_DEADLINE_S / 3600:g} h are allowed",
            "expires_at",
        )


def check_size(num_bytes: int, limit: int, path: str = "input") -> None:
    """Raise Invalid if a job of `num_bytes` of JSON does not fit into JOBS. `path`: the field that makes it large."""
    if num_bytes > limit:
        raise Invalid(f"{path}: the whole job has {num_bytes} bytes, the limit is {limit}", path)


def _check_value(value: Any, path: tuple[str, ...]) -> None:
    """Raise Invalid for a number in `value` that a later encoder cannot write, and for too many levels."""
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise _invalid(path, f"must be from {MIN_INTEGER} to {MAX_INTEGER}, not {_digits(value)}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _invalid(path, f"must be finite, not {value}")
    elif isinstance(value, dict | list):
        if len(path) > MAX_DEPTH:
            raise _invalid(path, f"is nested {len(path)} levels deep, the limit is {MAX_DEPTH}")
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if not isinstance(each, str):
                _check_value(each, (*path, str(key)))


def _invalid(path: tuple[str, ...], message: str) -> Invalid:
    name = ".".join(short(part) for part in path[:8]) + ("…" if len(path) > 8 else "")
    return Invalid(f"{name}: {message}", name)


def _digits(value: int) -> str:
    """`value` shortened; Python refuses to write integers of more than 4300 digits."""
    return short(str(value)) if value.bit_length() < 1000 else f"one of {value.bit_length()} bits"


def _fields(payload: bytes) -> frozenset[str]:
    """Names of the fields of a message that has decoded as a job."""
    return frozenset(wire.decode(dict[str, msgspec.Raw], payload))
