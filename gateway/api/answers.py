"""The native API's other responses, as `/openapi.json` shows them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bus.wire import State
from gateway.http.operation import Parameter
from gateway.jobs.view import Count

#: A job id, as every API accepts it.
JobId = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
ID = Parameter("id", JobId, "The job's id.", where="path")


class JobList(msgspec.Struct):
    """A page of jobs, newest first."""

    jobs: list[dict[str, Any]]
    #: The `before` of the next page; null on the last.
    next: str | None


class EndedJob(msgspec.Struct):
    """How a job ended."""

    id: str
    state: State


class ShownWorker(msgspec.Struct):
    """One worker, from its last heartbeat."""

    id: str
    pid: int
    host: str
    models: list[str]
    slots: Count
    in_flight: Count
    state: str
    device: str
    #: Bytes of device memory; null with a CPU alone, or if no engine reports it.
    device_bytes: Count | None
    breaker: str
    weight: int
    backup: bool
    boot: str
    rss_bytes: Count
    #: Seconds since its last heartbeat.
    heard_s: float


class ShownFleet(msgspec.Struct):
    """Every worker that this gateway knows."""

    workers: list[ShownWorker]


class Status(msgspec.Struct):
    """Liveness or readiness."""

    status: Literal["ok", "not ready"]
    missing: list[str] | UnsetType = UNSET


class Health(msgspec.Struct, kw_only=True):
    """Readiness and a few figures."""

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
    """OpenAI's list of models, with our cards in it."""

    object: Literal["list"]
    data: list[dict[str, Any]]


class ShownVoice(msgspec.Struct, frozen=True, kw_only=True):
    """A voice: our fields, then ElevenLabs'."""

    id: str
    name: str
    language: str
    gender: str
    model: str
    voice_id: str
    #: ElevenLabs' word for voices that come with the model, as all of ours do.
    category: str = "premade"
    labels: dict[str, str]
    description: str | None = None
    preview_url: str | None = None
    settings: dict[str, Any] | None = None
    high_quality_base_model_ids: list[str] = []


class VoiceList(msgspec.Struct):
    """The response of `/v1/voices`."""

    voices: list[ShownVoice]
