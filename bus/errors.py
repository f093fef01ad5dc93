"""What can go wrong, by what the caller should do about it.

    BusError
    ├── Malformed              bytes that do not decode; drop them, retrying cannot help
    ├── Unreachable            NATS did not answer in time; try again
    │   └── NoResponders       nobody listens on that subject
    ├── ApiError               JetStream said no, with its own code
    │   └── Full               a stream has no room for new jobs
    ├── TopologyMismatch       a stream or consumer exists with other subjects or filters; an operator must decide
    ├── Fenced                 somebody else holds the lease; stop, ack nothing
    └── JobError               how a request for a job is refused, or how a job ends; travels by `code`
        ├── Invalid              the request as written cannot be served; `path` says where
        ├── Unauthorized         whoever asks has not shown who it is
        ├── Forbidden            whoever asks may not ask that, or not from there
        ├── UnknownModel         no worker has ever offered it
        ├── NotFound             no such job for this tenant
        ├── Conflict             the id exists with another body
        ├── Gone                 the log lost its beginning
        ├── TooMany              a limit of the caller's is reached; try again when it says
        ├── NoWorker             nobody is there to ask; try again
        ├── StorageFull          no room for a new job; try again later
        ├── Expired              its deadline passed
        ├── Cancelled            somebody entitled ended it
        ├── EngineFailed         the model broke on a request it should have served
        ├── OutOfDeviceMemory    the device has no room even for this job alone
        └── Interrupted          its worker died too often

HTTP statuses are not here: that mapping belongs to `gateway.http.problems`.
"""

from typing import ClassVar


class BusError(Exception):
    """Catch this at a process boundary, its subclasses everywhere else."""


class Malformed(BusError):
    """Bytes that do not decode."""


class Unreachable(BusError):
    """NATS did not answer in time. The message says what was asked and how long it waited."""


class NoServer(Unreachable):
    """Where it should be, no NATS has ever answered."""


class NoResponders(Unreachable):
    """Nobody listens on the subject, or the stream has no leader."""


class ApiError(BusError):
    """JetStream refused. `err_code` is JetStream's own (10071: wrong last sequence)."""

    def __init__(self, err_code: int, description: str) -> None:
        super().__init__(f"JetStream error {err_code}: {description}")
        self.err_code = err_code


class Full(ApiError):
    """A stream is at one of its limits and discards what is new."""


class TopologyMismatch(BusError):
    """A stream or consumer exists with other subjects or another filter."""


class Fenced(BusError):
    """The lease is somebody else's, or gone."""


class JobError(BusError):
    """A job refused or ended. Subclasses are the complete list of codes."""

    #: Stable, on the wire and in problem+json; never renamed.
    code: ClassVar[str]
    #: Whether the same request may succeed if sent again.
    retryable: ClassVar[bool]
    by_code: ClassVar[dict[str, type["JobError"]]] = {}

    #: Dotted name of what is wrong (`params.seconds`), or "".
    path: str = ""

    def __init_subclass__(cls) -> None:
        if cls.code in JobError.by_code:
            raise TypeError(f"duplicate code {cls.code!r}")
        JobError.by_code[cls.code] = cls


class Invalid(JobError):
    """The request as written cannot be served. The message names the field, the limit and the value."""

    code, retryable = "invalid", False

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class Unauthorized(JobError):
    """Who asks is not known: no key where one is needed, or one that does not count (any more)."""

    code, retryable = "unauthorized", False


class Forbidden(JobError):
    """It is known who asks, or from where, and that may not be asked."""

    code, retryable = "forbidden", False


class UnknownModel(JobError):
    """No worker offers it."""

    code, retryable = "unknown_model", False
    path = "model"


class NotFound(JobError):
    """No such job for this tenant."""

    code, retryable = "not_found", False


class Conflict(JobError):
    """The id exists with another body."""

    code, retryable = "conflict", False
    path = "id"


class Gone(JobError):
    """The log lost its first entry to retention; what is left of it is not a recording."""

    code, retryable = "gone", False


class TooMany(JobError):
    """A limit is reached. Not the system's load: that is NoWorker, StorageFull, Unreachable."""

    code, retryable = "too_many", True

    #: Which one: `requests_per_s`, `concurrent_jobs`, `audio_s_per_day`.
    limit: str = ""
    #: Whose: `key`, `tenant` (for callers without a key), `address`.
    scope: str = "key"
    #: What was set, what of it is left, and the seconds until asking again may succeed.
    allowed: float = 0.0
    left: float = 0.0
    retry_after_s: float = 1.0
    #: Of `requests_per_s`: how many may come at once, and the seconds until so many may again.
    burst: int = 1
    full_after_s: float = 0.0


class NoWorker(JobError):
    """No worker is there, and none has told what it can do."""

    code, retryable = "no_worker", True


class StorageFull(JobError):
    """No room for a new job; running ones go on."""

    code, retryable = "storage_full", True


class Expired(JobError):
    """Its deadline passed before it was done."""

    code, retryable = "expired", True


class Cancelled(JobError):
    """Ended by somebody entitled, or left by its last listener."""

    code, retryable = "cancelled", False


class EngineFailed(JobError):
    """The model broke on a request that it should have served."""

    code, retryable = "engine_failed", True


class OutOfDeviceMemory(JobError):
    """The device has no room, not even for this job alone."""

    code, retryable = "out_of_memory", True


class Interrupted(JobError):
    """Its worker, or the engine under it, died once too often."""

    code, retryable = "interrupted", True


def from_code(code: str, message: str, path: str = "") -> JobError:
    """The error a peer reported. A code from a newer peer reads as EngineFailed, the code in the message."""
    kind = JobError.by_code.get(code)
    if kind is Invalid:
        return Invalid(message, path)
    return kind(message) if kind else EngineFailed(f"{code}: {message}")
