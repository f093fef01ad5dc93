"""Messages that cross NATS, and nothing else: no I/O, no clock, no settings.

Compatibility: a reader ignores fields it does not know, so adding a field with a default is safe in either order of
deployment. Renaming or retyping one is not; add a new field instead.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from bus.errors import EngineFailed, Malformed
from bus.marking import DEFAULT_MARKING, Marking
from bus.options import EngineOptions, JobOptions
from bus.quality import Quality
from bus.script import Turn, joined
from bus.webhook import Webhook

T = TypeVar("T")
#: Most marks in one entry of a log: its headers then stay below 8 KB, whatever the marks say.
MAX_MARKS: Final = 96
#: Most entries of `Done.skipped`.
MAX_SKIPPED: Final = 100


class State(StrEnum):
    """State of a job, derived from its log and never stored (protocol rule 12): a crash moves no job by itself.

    In and out of each state: `docs/jobs.md` has the same as a table and a drawing.
    """

    #: No lease yet. In: JOBS acknowledged the message; if the gateway dies before it writes the birth, the worker that
    #: pulls the message writes it. Out: a worker's first lease, a cancel, an expiry.
    QUEUED = "queued"
    #: A worker holds the lease. In: the worker that was delivered the job. Out: its terminal entry; its hand-back; a
    #: gateway that found it dead; another worker after ack_wait, if it froze; a cancel, an expiry.
    RUNNING = "running"
    #: Begun, and held by no worker. In: a worker that drains, stalls or lost its engine host; a gateway in place of a
    #: dead worker. Out: the next worker's lease, a cancel, an expiry, or `failed` once the attempts are spent.
    INTERRUPTED = "interrupted"
    #: All audio is in the log. In: the worker that holds the lease. Final.
    DONE = "done"
    #: In: the worker that holds the lease, if the engine refuses or fails; a worker that finds the attempts spent or
    #: the message unreadable. Final: a retry makes a new job.
    FAILED = "failed"
    #: In: an entitled caller, the gateway whose last listener left, a worker that finds no listeners. Final.
    CANCELLED = "cancelled"
    #: In: the first process that looks after a deadline: a gateway's timer, a GET, the worker that has it. Final.
    EXPIRED = "expired"


class End(StrEnum):
    """Kind of a log's terminal entry, and the state of its job from then on. Exactly one ends a log."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class LeaseState(StrEnum):
    """State of a lease: who holds it, or how its job is being ended."""

    #: Held by `Lease.worker`. In: the worker that takes it. Out: that worker, or the next one that writes the lease.
    RUNNING = "running"
    #: Released by its worker, as at a drain: costs no attempt.
    HANDED_BACK = "handed_back"
    #: Revoked from a dead worker by a gateway, or released by a worker that could not go on: costs an attempt.
    INTERRUPTED = "interrupted"
    #: The job is being ended in this way: the terminal entry is in `Lease.body`. If the process that announced it dies
    #: before it appends the entry, the next one that reads the lease does. Never replaced by another state.
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


#: Kinds of terminal entries as they stand in headers.
ENDS: Final = tuple(end.value for end in End)


class Client(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a job came from. Not part of its identity. Written by the gateway that accepts the job."""

    #: The API: `openai`, `jobs`, `elevenlabs`, …; `nats` also for a job published without a gateway.
    api: str = "nats"
    #: W3C trace context; "" without.
    traceparent: str = ""
    #: Id of the API key that authenticated the request; "" without.
    key: str = ""
    #: Where to report the job's events; None: nowhere.
    webhook: Webhook | None = None


class Files(NamedTuple):
    """The paths of `EngineRequest`."""

    inputs: dict[str, str]
    voices: dict[str, dict[str, str]]


class EngineRequest(EngineOptions, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a job that its engine needs; `engine_request` takes it out of a complete job."""

    input: str
    script: list[Turn] = msgspec.field(default_factory=list)
    id: str = ""
    model: str = ""
    voice: str = ""
    voice_digests: dict[str, str] = msgspec.field(default_factory=dict)
    marking: Marking = DEFAULT_MARKING
    #: Paths of the files, by name.
    inputs: dict[str, str] = msgspec.field(default_factory=dict)
    #: Paths of the files of each installed voice that it speaks with: by voice, then by the file's name.
    voice_files: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    hops: int = 0


class Requested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of a job as its caller sent them, before defaults and resolution: a repeat is compared by them."""

    model: str = ""
    version: str = ""
    voice: str = ""
    #: Of the voice, if it names none.
    language: str = ""
    #: Voice of each turn of its script.
    turns: list[str] = []

    @classmethod
    def of(cls, job: "Job", model: str, language: str) -> "Requested":
        """The fields of a job that is not completed yet, and may be routed; `model` if it names none."""
        turns, sent = [turn.voice for turn in job.script], job.requested or job
        return cls(model=sent.model or model, version=sent.version, voice=job.voice, language=language, turns=turns)


class Job(JobOptions, frozen=True, kw_only=True, omit_defaults=True):
    """One request for audio. A bus user has to give `input` or `script`; the subject is the authority for the rest."""

    #: The text, or the description of the music; "" with a script.
    input: str = ""
    #: Turns of several voices; empty with an input.
    script: list[Turn] = msgspec.field(default_factory=list)
    #: One subject token. "": the gateway chooses one; without a gateway it is `q` and the sequence in JOBS.
    id: str = ""
    #: Name of a model. "": the API's default, or the subject's.
    model: str = ""
    #: Id of one of the model's voices; "": its default.
    voice: str = ""
    #: SHA-256 of each of its voices, by its card: a voice with another one fails the attempt. Written by the gateway.
    voice_digests: dict[str, str] = msgspec.field(default_factory=dict)
    #: Files that the engine reads: by name, as the card has it, the digest of a blob of the tenant.
    inputs: dict[str, str] = msgspec.field(default_factory=dict)
    #: Written by the gateway, from the caller's key. "": the subject's.
    tenant: str = ""
    #: The options with checks: a worker also reads jobs that no gateway has validated.
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    first_audio_deadline_s: Annotated[float, Meta(gt=0)] | None = None
    #: Stacks that passed it on. Part of the identity: one that comes round is not given its own run. By the gateway.
    hops: int = 0
    #: Id of the dead job that this one repeats, written by `dead retry`; "" for any other.
    retry_of: str = ""
    #: Written by the gateway, from the policy of its tenant.
    marking: Marking = DEFAULT_MARKING
    #: Most bytes of PCM that it can make, by its model's bound; 0: not known. Written by the gateway; no identity.
    max_bytes: int = 0
    #: Written by the gateway into a job whose id its caller chose. Not part of its identity. None: as they are here.
    requested: Requested | None = None
    #: Written by the gateway.
    client: Client = Client()


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """The `accepted` entry on `.job`, written once: by the gateway, or by the worker that finds none."""

    #: Complete: every default is filled in.
    job: Job
    #: By `bus.jobs.birth.digest`; "" for a message that is no job.
    digest: str
    #: Sequence of the job's message in JOBS. Any other message with this id is surplus.
    queue_seq: int
    #: Unix seconds, the bus's clock.
    accepted_at: float


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may append to a log. Its stream sequence is the fence. The process that takes or ends the job writes it."""

    #: `why` in JSON.
    state: LeaseState = msgspec.field(name="why")
    #: Id of the last worker that took it; "" before the first one. It stays after the worker let go.
    worker: str = ""
    #: Boot id of that worker: distinguishes two processes with one id.
    boot: str = ""
    #: Where to acknowledge the delivery that this lease was taken with.
    ack: str = ""
    #: 1 for the first. A hand-back does not count.
    attempt: int = 0
    #: For people: why it was released, revoked or ended; "" while it is held.
    detail: str = ""
    #: Engine hosts that died in this job, over all attempts.
    host_deaths: int = 0
    #: Stack of the engine when it last died or hung in this job, 4 KB at most; "" if it could not be read.
    traceback: str = ""
    #: While it is `running`: why its worker appends nothing; `storage`: no room in REPLIES. "" while it does.
    waiting_for: str = ""
    #: With an end: the terminal entry's payload, so that any process can finish the ending that was announced.
    body: dict[str, Any] = {}


class Started(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Header `Antiphon-Started` of the first entry of each attempt, written by its worker."""

    #: `audio/L16;rate=…;channels=…`; any other media type passes the bus untouched.
    media: str
    #: Id of the worker.
    worker: str
    #: `Lease.attempt`.
    attempt: int
    #: Model and version that make the audio, as in the job.
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
    """Written by the worker that ends the job, by the bus's clock. Seconds."""

    #: From acceptance to the start of the attempt that ended the job.
    queued_s: float
    #: From acceptance to the first block of the log; None if an earlier attempt made it.
    first_block_s: float | None
    #: From acceptance to the end.
    total_s: float


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A token of the input, without a letter or digit, that the voice has no name for and did not speak."""

    #: Position in `text_of` the job and length, in characters, from 0.
    start: int
    length: int


class Done(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Payload of the terminal entry `done`, written by the worker that holds the lease. Counts cover the whole log."""

    blocks: int
    frames: int
    #: Frames by rate.
    seconds: float
    #: CRC-32 of all PCM, 8 hexadecimal digits.
    crc32: str
    #: Absent in the logs of other writers than our worker.
    timings: Timings | None = None
    #: Facts from the engine, JSON types only.
    engine: dict[str, Any] = {}
    #: Of speech: `words` if every word of the input was spoken, `unverified` if the engine cannot know. Else "".
    completeness: Literal["", "words", "unverified"] = ""
    #: What was not spoken, at most `MAX_SKIPPED`.
    skipped: list[Skipped] = []
    #: None if the worker had no time to measure.
    quality: Quality | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Payload of the terminal entry `failed`."""

    #: One of `errors.JobError.by_code`.
    code: str
    #: For people.
    message: str
    #: Dotted name of the field at fault (`params.seconds`); "" if none is.
    path: str = ""
    #: Id of the last worker that had it; "" if none had.
    worker: str = ""
    #: Number of its last attempt; 0 if there was none.
    attempt: int = 0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of the terminal entries `cancelled` and `expired`, written by the process that ended the job."""

    #: For people; `left` if its last listener left.
    why: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of an entry `progress`: work of the engine that made no audio, written by its worker."""

    #: The engine's name for the work.
    phase: str
    #: In the engine's unit, of `total`.
    done: float
    #: None if it is not known beforehand.
    total: float | None = None


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Where in the audio a piece of the input begins. From the engine; in header `Antiphon-Marks` of its block."""

    #: Counted from the beginning of the job.
    frame: int
    kind: Literal["word", "char", "sentence"]
    #: First character of the piece in `text_of` the job.
    start: int
    #: In characters.
    length: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of an entry `checkpoint`: state of the engine, from which another worker can go on."""

    #: The frame that the state continues at.
    frame: int
    #: The engine's own format.
    data: bytes


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Sent to the worker of a lease that was replaced. It obeys after it has read the lease itself."""

    tenant: str
    job: str


class DeadJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter: a message that no worker will be given again. Written by the worker that gave it up."""

    #: For people.
    reason: str
    #: Subject of the message in JOBS.
    subject: str
    #: The message: a `Job` in JSON, or bytes that are none.
    payload: bytes
    #: `Lease.attempt` of the last one; 0 for a message that is no job.
    attempts: int = 0
    #: Id of the last worker that tried; "" if none did.
    worker: str = ""
    #: These two as in the last lease.
    host_deaths: int = 0
    traceback: str = ""


#: `encode(message)`: the message as compact JSON.
encode: Final = msgspec.json.Encoder().encode
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def decode(kind: type[T], data: bytes) -> T:
    """`data` as a `kind`. Raises Malformed, naming the field at fault, if it is none."""
    decoder = _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    try:
        return decoder.decode(data)  # type: ignore[no-any-return]  # as its key says
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{kind.__name__}: {error}") from error


def text_of(job: Job) -> str:
    """All the text of `job`: its input, or the texts of its turns, one line each."""
    return job.input or joined(job.script)


_OF_REQUEST: Final = [name for name in EngineRequest.__struct_fields__ if name in Job.__struct_fields__]


def engine_request(job: Job, files: Files | None = None) -> EngineRequest:
    """The fields of `job` that its engine needs, with the paths of `files` in place of its inputs."""
    request = EngineRequest(**{name: getattr(job, name) for name in _OF_REQUEST})
    return request if files is None else msgspec.structs.replace(request, inputs=files[0], voice_files=files[1])


def media_type(rate_hz: int, channels: int) -> str:
    """Media type of s16le PCM: RFC 2586 `audio/L16`, except that ours is little-endian."""
    return f"audio/L16;rate={rate_hz};channels={channels}"


def parse_media_type(text: str) -> tuple[int, int]:
    """(rate_hz, channels) of a text that `media_type` made. Raises Malformed."""
    kind, _, rest = text.partition(";")
    fields = dict(part.partition("=")[::2] for part in rest.split(";"))
    try:
        if kind != "audio/L16":
            raise ValueError(kind)
        return int(fields["rate"]), int(fields["channels"])
    except (KeyError, ValueError) as error:
        raise Malformed(f"media type {text[:100]!r}") from error
