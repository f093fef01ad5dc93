"""Messages that cross NATS, and nothing else: no I/O, no clock, no settings.

Compatibility: a reader ignores fields it does not know, so adding a field with a default is safe in either order of
deployment. Renaming or retyping one is not; add a new field instead.
"""

import functools
import hashlib
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from bus.errors import EngineFailed, Malformed
from bus.webhook import Webhook

T = TypeVar("T")
End = Literal["done", "failed", "cancelled", "expired"]
ENDS: Final = ("done", "failed", "cancelled", "expired")
#: Of one entry of a log: its headers then stay below 8 KB, whatever the marks say.
MAX_MARKS: Final = 96
#: `running` a worker's; `handed_back` on purpose; `interrupted` taken from a dead one; an End: it is being ended so.
Why = Literal["running", "handed_back", "interrupted", "done", "failed", "cancelled", "expired"]


class Client(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a job came from. Not part of its identity."""

    api: str = "nats"
    #: W3C trace context.
    traceparent: str = ""
    #: Id of the API key that asked, "" if none did.
    key: str = ""
    #: Whom to tell what becomes of it.
    webhook: Webhook | None = None


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a job that decides what an engine computes; `engine_request` takes it out of a job.

    A field added here reaches the engine host without another list of fields.
    """

    input: str
    id: str = ""
    model: str = ""
    voice: str = ""
    params: dict[str, Any] = {}
    #: Equal seeds and inputs make equal audio, if the engine is deterministic.
    seed: int = 0


class Job(EngineRequest, frozen=True, kw_only=True, omit_defaults=True):
    """One request for audio. Only `input` is required of a bus user; the subject is the authority for the rest."""

    version: str = ""
    lane: str = ""
    tenant: str = ""
    #: Wall clock with offset. None: the lane's default counted from acceptance.
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    #: Seconds after acceptance within which its first block must be in the log, or it expires.
    first_audio_deadline_s: Annotated[float, Meta(gt=0)] | None = None
    #: Whether the work goes on when nobody listens. None: true for doors that answer before the sound.
    run_on: bool | None = None
    #: How long to wait for a listener to come back before the work stops.
    linger_s: float = 0.0
    retry_of: str = ""
    client: Client = Client()


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """The `accepted` entry on `.job`."""

    job: Job
    digest: str
    #: Sequence of the job's message in JOBS. Any other message with this id is surplus.
    queue_seq: int
    #: Unix seconds, the bus's clock.
    accepted_at: float


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may append to a log. The lease's stream sequence is the fence; this is what stands in it."""

    why: Why
    worker: str = ""
    #: Tells two processes with one id apart.
    boot: str = ""
    #: Where to acknowledge the delivery that this lease was taken with.
    ack: str = ""
    #: 1 for the first. A hand-back does not count.
    attempt: int = 0
    detail: str = ""
    #: Engine hosts that died in this job, over all attempts.
    host_deaths: int = 0
    #: What the engine was doing when it last died or hung in this job, where it could still be told; 4 KB at most.
    traceback: str = ""
    #: With an End: the terminal entry's payload, so that whoever finishes the ending writes the announced one.
    body: dict[str, Any] = {}


class Started(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Header `Antiphon-Started` of the first entry of each attempt."""

    media: str
    worker: str
    attempt: int
    model: str
    version: str
    #: First frame of this attempt; absent for one that began the log.
    seam_frame: int | None = None
    #: Whether the seam is inaudible by construction.
    exact: bool = True

    @property
    def pcm_media(self) -> tuple[int, int]:
        """(rate_hz, channels) of the attempt's audio. Raises EngineFailed if it is not PCM."""
        try:
            return parse_media_type(self.media)
        except Malformed as error:
            raise EngineFailed(f"the job's audio is not PCM: {error}") from error


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `first_block_s` and `total_s` count from acceptance."""

    queued_s: float
    first_block_s: float | None
    total_s: float


class Done(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    blocks: int
    frames: int
    seconds: float
    #: CRC-32 of all PCM, 8 hexadecimal digits.
    crc32: str
    timings: Timings | None = None
    engine: dict[str, Any] = {}


class Failed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Terminal. `code` is one of `errors.JobError.by_code`."""

    code: str
    message: str
    path: str = ""
    worker: str = ""
    attempt: int = 0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Terminal: cancelled or expired."""

    why: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    phase: str
    done: float
    total: float | None = None


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Where in the sound a piece of the input begins."""

    #: Counted from the beginning of the job.
    frame: int
    kind: Literal["word", "char", "sentence"]
    #: In `input`, in characters.
    start: int
    length: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    frame: int
    data: bytes


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Word to a worker that the lease of this job was taken. It obeys after reading the lease itself."""

    tenant: str
    job: str


class DeadJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message given up on."""

    reason: str
    subject: str
    payload: bytes
    attempts: int = 0
    #: The last one that tried.
    worker: str = ""
    host_deaths: int = 0
    traceback: str = ""


_encoder = msgspec.json.Encoder()
_canonical = msgspec.json.Encoder(order="deterministic")
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}
_BARE: Final = Job(input="")
_IDENTITY: Final = {*Job.__struct_fields__} - {"id", "client", "expires_at", "first_audio_deadline_s"}


def encode(message: Any) -> bytes:
    return _encoder.encode(message)


def decode(kind: type[T], data: bytes) -> T:
    """Raises Malformed, with the path of what is wrong, if `data` is not a `kind`."""
    decoder = _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    try:
        return decoder.decode(data)  # type: ignore[no-any-return]  # as its key says
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{kind.__name__}: {error}") from error


def digest(job: Job) -> str:
    """SHA-256 of the normalised job, less what is not part of its identity: two bodies with one digest are one job."""
    # By value: `omit_defaults` knows a default of another module's, a 0.0 that was read, for something else.
    told = {name: value for name in _IDENTITY if (value := getattr(job, name)) != getattr(_BARE, name)}
    return hashlib.sha256(_canonical.encode(told)).hexdigest()


def engine_request(job: Job) -> EngineRequest:
    """The fields of `job` that its engine needs."""
    return EngineRequest(**{field: getattr(job, field) for field in EngineRequest.__struct_fields__})


def job_from(options: msgspec.Struct, **fields: Any) -> Job:
    """A job from the fields that `options` has in common with `Job`, by name, and from `fields`, which go first.

    An API's request struct thus needs no mapping of its own: a field that both structs declare is copied, any other
    field of `options` is the API's own business. Checks no values. Raises TypeError if a name in `fields` is no field
    of `Job`, or if neither side gives `input`.
    """
    return Job(**({field: getattr(options, field) for field in _shared_fields(type(options))} | fields))


@functools.cache
def _shared_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field for field in kind.__struct_fields__ if field in Job.__struct_fields__)


def traceparent_or_empty(text: str) -> str:
    """`text` if it can be a W3C `traceparent` (55 ASCII characters), else ""."""
    return text if len(text) == 55 and text.isascii() else ""


def media_type(rate_hz: int, channels: int) -> str:
    """RFC 2586 `audio/L16`, except that ours is little-endian, as every reader of a log knows."""
    return f"audio/L16;rate={rate_hz};channels={channels}"


def parse_media_type(text: str) -> tuple[int, int]:
    """(rate_hz, channels). Raises Malformed if `text` is not of `media_type`'s form."""
    kind, _, rest = text.partition(";")
    fields = dict(part.partition("=")[::2] for part in rest.split(";"))
    try:
        if kind != "audio/L16":
            raise ValueError(kind)
        return int(fields["rate"]), int(fields["channels"])
    except (KeyError, ValueError) as error:
        raise Malformed(f"media type {text[:100]!r}") from error
