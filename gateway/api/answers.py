"""The native API's other responses, as `/openapi.json` shows them."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bus.wire import State
from gateway.access.authenticator import LINK_PARAMETER
from gateway.http.operation import Parameter
from gateway.jobs.view import Count

#: A job id, as every API accepts it.
JobId = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
ID = Parameter("id", JobId, "The job's id.", where="path")
LINK_TOKEN = Parameter(LINK_PARAMETER, str, "Of a link from `/v1/jobs/{id}/links`, instead of a key.")


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
    #: Those of `missing` that waiting does not mend: by worker and model, why it could not be loaded.
    failed: dict[str, dict[str, str]] | UnsetType = UNSET


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


class Language(msgspec.Struct, frozen=True):
    """A language of a model, in ElevenLabs' form."""

    language_id: str
    name: str


class ElevenLabsModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in ElevenLabs' list, which is sent to clients that send `xi-api-key`."""

    model_id: str
    name: str
    can_do_text_to_speech: bool
    can_do_voice_conversion: bool = False
    can_be_finetuned: bool = False
    can_use_style: bool = False
    can_use_speaker_boost: bool = False
    serves_pro_voices: bool = False
    requires_alpha_access: bool = False
    #: Nothing is charged.
    token_cost_factor: float = 0.0
    description: str
    languages: list[Language]
    maximum_text_length_per_request: int
    max_characters_request_free_user: int
    max_characters_request_subscribed_user: int


#: Category of uploaded voices.
CLONED: Final = "cloned"


class FineTuning(msgspec.Struct, frozen=True, kw_only=True):
    """ElevenLabs' state of a voice that is being trained: none of ours is."""

    is_allowed_to_fine_tune: bool = False
    state: dict[str, str] = {}
    language: str | None = None


class ShownVoice(msgspec.Struct, frozen=True, kw_only=True):
    """A voice: our fields, then ElevenLabs'."""

    id: str
    name: str
    language: str
    gender: str
    #: Of the voice's files; empty if it is a part of its engine.
    sha256: str
    #: Whether it reads SSML; documents for others are refused.
    ssml: bool
    model: str
    voice_id: str
    #: ElevenLabs' words: `premade` for voices that come with the model, `cloned` for uploaded ones.
    category: str = "premade"
    labels: dict[str, str]
    description: str | None = None
    preview_url: str | None = None
    settings: dict[str, Any] | None = None
    high_quality_base_model_ids: list[str] = []
    fine_tuning: FineTuning = FineTuning()


class VoiceList(msgspec.Struct):
    """The response of `/v1/voices`."""

    voices: list[ShownVoice]
