"""The shapes of the native API's answers, as `/openapi.json` tells them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bus.jobs.status import State
from bus.wire import Timings
from gateway.http.operation import Parameter

Count = Annotated[int, Meta(ge=0)]
#: An id of a job, as every door takes it.
JobId = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
ID = Parameter("id", JobId, "Of the job.", where="path")


class Links(msgspec.Struct):
    self: str
    events: str
    audio: str
    marks: str
    blocks: str


class AcceptedJob(msgspec.Struct):
    id: str
    state: State
    links: Links


class ShownProgress(msgspec.Struct):
    phase: str
    done: float
    total: float | None


class ShownError(msgspec.Struct):
    code: str
    message: str
    path: str
    retryable: bool


class ShownJob(msgspec.Struct, kw_only=True):
    id: str
    state: State
    model: str
    version: str
    voice: str
    lane: str
    accepted_at: str
    expires_at: str | None
    blocks: Count
    frames: Count
    #: Of audio so far.
    seconds: float
    worker: str | None
    attempts: Count
    links: Links
    #: While it waits: jobs ahead of it, and when it starts if that can be told.
    position: Count | UnsetType = UNSET
    eta_s: float | UnsetType = UNSET
    progress: ShownProgress | UnsetType = UNSET
    #: Of a job that is done.
    crc32: str | UnsetType = UNSET
    engine: dict[str, Any] | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET
    #: Of one that ended otherwise.
    error: ShownError | UnsetType = UNSET


class JobList(msgspec.Struct):
    jobs: list[dict[str, Any]]
    #: The `before` of the next page; null on the last.
    next: str | None


class EndedJob(msgspec.Struct):
    id: str
    state: State


class ShownWorker(msgspec.Struct):
    id: str
    pid: int
    host: str
    models: list[str]
    slots: Count
    in_flight: Count
    state: str
    device: str
    #: None: it has but a CPU, or no engine can tell.
    device_bytes: Count | None
    breaker: str
    weight: int
    backup: bool
    boot: str
    rss_bytes: Count
    #: Seconds since its last heartbeat.
    heard_s: float


class ShownFleet(msgspec.Struct):
    workers: list[ShownWorker]


class Status(msgspec.Struct):
    status: Literal["ok", "not ready"]
    missing: list[str] | UnsetType = UNSET


class Health(msgspec.Struct, kw_only=True):
    status: Literal["ok", "not ready"]
    missing: list[str]
    nats: bool
    workers: Count
    model_loaded: bool
    gpu_memory_used: Count | None
    requests: Count
    clock_skew_s: float
    cache: dict[str, Any]


class ModelList(msgspec.Struct):
    object: Literal["list"]
    data: list[dict[str, Any]]


class VoiceList(msgspec.Struct):
    voices: list[dict[str, Any]]
