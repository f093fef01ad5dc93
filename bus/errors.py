"""Exceptions, by the reaction that they require.

    BusError
    ├── Malformed              bytes that do not decode; drop them, retrying cannot help
    ├── Unreachable            NATS did not reply in time; retry
    │   ├── NoServer             no server was ever reached
    │   ├── NoResponders         the subject has no subscriber
    │   └── NotPermitted         nats-server does not permit this user the subject; an operator must decide
    ├── ApiError               JetStream refused, with an error code of its own
    │   └── Full                 a stream has no room for new messages
    ├── TopologyMismatch       a stream or consumer exists with other subjects or filters; an operator must decide
    ├── Fenced                 another process holds the lease; stop, acknowledge nothing
    └── JobError               a request for a job is refused, or a job ended without success; travels by `code`
        ├── Invalid              the request as written cannot be served; `path` names the field
        │   └── TooLarge           its audio can become, or became, larger than is allowed
        ├── Unauthorized         the caller is not authenticated
        ├── Forbidden            the caller may not do this, or not from there
        ├── UnknownModel         no worker has ever offered the model
        ├── NotFound             the tenant has no such job
        ├── Conflict             the id exists with another body
        ├── Gone                 the log lost its beginning
        ├── VoiceGone            the voice was deleted or replaced meanwhile
        ├── TooMany              a limit of the caller is reached; retry after `retry_after_s`
        ├── NoWorker             no worker is known; retry
        ├── StorageFull          no room for a new job; retry later
        ├── Overloaded           the process is at a bound that all its callers share; retry, perhaps elsewhere
        ├── Expired              the deadline has passed
        ├── Cancelled            ended on request, or because its last listener left
        ├── EngineFailed         the model raised on a request that it should have served
        ├── LogDamaged           the store has lost a part of the job's audio
        ├── OutOfDeviceMemory    the device has no room, even for this job alone
        ├── TextLost             words of the input were not spoken
        └── Interrupted          its worker died too often

HTTP statuses are not here: that mapping belongs to `gateway.http.problems`.
"""

from typing import ClassVar


class BusError(Exception):
    """Base class. Catch it at a process boundary, its subclasses everywhere else."""


class Malformed(BusError):
    """Bytes that do not decode."""


class Unreachable(BusError):
    """NATS did not reply in time. The message names the operation and the limit."""


class NoServer(Unreachable):
    """Failed to establish a connection to any NATS server."""


class NoResponders(Unreachable):
    """The subject has no subscriber, or the stream has no leader."""


class NotPermitted(Unreachable):
    """The user of this connection may not publish to the subject; a retry cannot help. The message names it."""


class ApiError(BusError):
    """JetStream refused a request. `err_code` is JetStream's (10071: wrong last sequence)."""

    def __init__(self, err_code: int, description: str) -> None:
        super().__init__(f"JetStream error {err_code}: {description}")
        self.err_code = err_code


class Full(ApiError):
    """A stream is at one of its limits and refuses new messages."""


class TopologyMismatch(BusError):
    """A stream or consumer exists with other subjects or another filter."""


class Fenced(BusError):
    """Another process holds the lease, or it is gone."""


class JobError(BusError):
    """A job refused or ended. Subclasses are the complete list of codes."""

    #: Stable, on the wire and in problem+json; never renamed.
    code: ClassVar[str]
    #: Whether the same request may succeed if sent again.
    retryable: ClassVar[bool]
    by_code: ClassVar[dict[str, type["JobError"]]] = {}

    #: Dotted name of the invalid field (`params.seconds`), or "".
    path: str = ""

    def __init_subclass__(cls) -> None:
        if cls.code in JobError.by_code:
            raise TypeError(f"duplicate code {cls.code!r}")
        JobError.by_code[cls.code] = cls


class Invalid(JobError):
    """The request as written cannot be served. The message names the field, the limit and the value."""

    code = "invalid"
    retryable = False

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class TooLarge(Invalid):
    """The job's audio can become larger than a job may be, or it became larger than its model said."""

    code = "too_large"
    retryable = False


class Unauthorized(JobError):
    """The caller is not authenticated: no key where one is required, or a key that is invalid or revoked."""

    code = "unauthorized"
    retryable = False


class Forbidden(JobError):
    """The caller is authenticated and may not do this, or not from this address or origin."""

    code = "forbidden"
    retryable = False


class UnknownModel(JobError):
    """No worker offers the model."""

    code = "unknown_model"
    retryable = False
    path = "model"


class NotFound(JobError):
    """The tenant has no such job."""

    code = "not_found"
    retryable = False


class Conflict(JobError):
    """The id exists with another body."""

    code = "conflict"
    retryable = False
    path = "id"


class Gone(JobError):
    """Retention deleted the first entries of the log; the rest cannot be played."""

    code = "gone"
    retryable = False


class VoiceGone(JobError):
    """The uploaded voice of an accepted job was deleted or replaced before its worker had the clip."""

    code = "voice_gone"
    retryable = False
    path = "voice"


class TooMany(JobError):
    """A limit of the caller is reached. Load of the system raises NoWorker, StorageFull, Overloaded or Unreachable."""

    code = "too_many"
    retryable = True

    #: The limit: `requests_per_s`, `concurrent_jobs`, `audio_s_per_day`, or the pool of which the caller has its share.
    limit: str = ""
    #: Whose limit it is: `key`, `tenant`, `address`.
    scope: str = "key"
    #: Value of the limit.
    allowed: float = 0.0
    #: Part of the limit that is not used.
    left: float = 0.0
    #: Seconds until a retry may succeed.
    retry_after_s: float = 1.0
    #: Only for `requests_per_s`: the number of requests that may come at once.
    burst: int = 1
    #: Only for `requests_per_s`: seconds until a full burst is available again.
    full_after_s: float = 0.0


class NoWorker(JobError):
    """No worker is known, so no model is known either."""

    code = "no_worker"
    retryable = True


class StorageFull(JobError):
    """No room for a new job; running ones go on."""

    code = "storage_full"
    retryable = True


class Overloaded(JobError):
    """The process that was called is at a bound that all its callers share; another process may have room."""

    code = "overloaded"
    retryable = True


class Expired(JobError):
    """The deadline passed before the job was done."""

    code = "expired"
    retryable = True


class Cancelled(JobError):
    """The job was ended on request, or because its last listener left."""

    code = "cancelled"
    retryable = False


class EngineFailed(JobError):
    """The model raised on a request that it should have served."""

    code = "engine_failed"
    retryable = True


class TextLost(JobError):
    """Words of the input were not spoken and cannot be by this voice; the message names them and their positions."""

    code = "text_lost"
    retryable = False
    path = "input"


class LogDamaged(JobError):
    """A damaged store has lost frames `first` to `stop - 1` of the job's audio."""

    code = "log_damaged"
    retryable = False

    def __init__(self, message: str, first: int = 0, stop: int = 0) -> None:
        super().__init__(message)
        self.first = first
        self.stop = stop

    @classmethod
    def at(cls, first: int, stop: int) -> "LogDamaged":
        """The error for these frames."""
        frames = f"frames {first} to {stop - 1}"
        return cls(f"{frames} of the job's audio are lost: its log was damaged in the store", first, stop)


class OutOfDeviceMemory(JobError):
    """The device has no room, even for this job alone."""

    code = "out_of_memory"
    retryable = True


class Interrupted(JobError):
    """Its worker, or the engine host under it, died too often."""

    code = "interrupted"
    retryable = True


def from_code(code: str, message: str, path: str = "") -> JobError:
    """Return the error that a peer reported. An unknown code of a newer peer becomes EngineFailed, with that code."""
    kind = JobError.by_code.get(code)
    if kind is None:
        return EngineFailed(f"{code}: {message}")
    error = kind(message, path) if issubclass(kind, Invalid) else kind(message)
    if path:
        error.path = path  # a lost word of a turn: not the class's field
    return error
