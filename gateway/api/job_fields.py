"""The options that a request to any API may have beside the API's own fields, and the job that they make."""

import uuid
from collections.abc import Container
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import Invalid
from bus.fleet.fleet import Fleet
from bus.fleet.messages import ModelCard
from bus.jobs.submit import keyed_id
from bus.subjects import LANES
from bus.webhook import Webhook
from gateway.access.caller import caller
from gateway.codecs.format import FORMATS, MAX_SPEED, MIN_SPEED
from gateway.http.caching import refuses_cache
from gateway.http.operation import Parameter
from gateway.jobs.validation import DEFAULT_MODEL, MAX_DEADLINE_S, MAX_LINGER_S, MAX_SEED

_MAX_KEY_CHARS: Final = 255
KEY: Final = Parameter(
    "Idempotency-Key",
    Annotated[str, Meta(min_length=1, max_length=_MAX_KEY_CHARS)],
    "Names the job: the same key and body again answer the same job.",
    where="header",
)


def schema(text: str, **limits: Any) -> Meta:
    """Metadata of a field for `/openapi.json` alone: its description, and `limits` as keywords of JSON Schema.

    Decoding does not check the limits: validation does, with an error that names field, limit and value.
    """
    return Meta(description=text, extra_json_schema=limits)


_CONTROL: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
#: Text that audio can be made of.
Text = Annotated[
    str,
    schema(
        "The text or prompt: not empty, no control characters but tab and line ends.",
        minLength=1,
        pattern=rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$",
    ),
]
Model = Annotated[str, schema("A model of `/v1/models`; empty: this API's default.")]
Voice = Annotated[str, schema("A voice of the model; empty: the model's default.")]
Speed = Annotated[float, schema("Playing speed, with the pitch unchanged.", minimum=MIN_SPEED, maximum=MAX_SPEED)]
Coded = Annotated[str, schema("Format of the audio; empty: this API's default.", enum=["", *FORMATS])]


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of `wire.Job` that a request to any API may set; the body of an API extends it."""

    version: Annotated[str, schema("Version of the model; empty: the one on offer.")] = ""
    params: Annotated[dict[str, Any], schema("The engine's own parameters; the model's card has their schema.")] = {}
    seed: Annotated[int, schema("Seed of the engine's random numbers.", minimum=0, maximum=MAX_SEED)] = 0
    lane: Annotated[str, schema("Empty: this API's default.", enum=["", *LANES])] = ""
    expires_at: Annotated[datetime, schema("With an offset from UTC; within 12 h.", format="date-time")] | None = None
    first_audio_deadline_s: (
        Annotated[
            float,
            schema("Seconds until its first audio, or it expires.", exclusiveMinimum=0, maximum=MAX_DEADLINE_S),
        ]
        | None
    ) = None
    run_on: Annotated[bool, schema("Whether it runs on without listeners; null: this API's default.")] | None = None
    linger_s: Annotated[
        float, schema("Seconds that it waits for a listener to return.", minimum=0, maximum=MAX_LINGER_S)
    ] = 0.0


class JobRequest(JobOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The native API's request: the fields of `wire.Job` that a caller may set."""

    input: Text
    id: Annotated[str, schema("The caller's id for the job; empty: a random one.", pattern="^[A-Za-z0-9_-]{0,64}$")] = (
        ""
    )
    model: Model = ""
    voice: Voice = ""


class HttpJobRequest(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The native API's request over HTTP, which may name a webhook."""

    webhook: Webhook | None = None


def build_job(request: web.Request, api: str, options: JobOptions, *, job_id: str = "", **fields: Any) -> wire.Job:
    """The caller's job, before validation.

    It has the fields that `options` shares with `wire.Job`; `fields`, named as there, replace them. The id is `job_id`,
    else that of the Idempotency-Key, else a random one if the request refuses the result cache, else "": validation
    then chooses one. Raises Invalid for the Idempotency-Key.
    """
    owner = caller(request)
    job_id = job_id or idempotent_id(request, api) or (uuid.uuid4().hex if refuses_cache(request) else "")
    client = wire.Client(api=api, traceparent=traceparent(request), key=owner.key)
    return wire.job_from(options, id=job_id, tenant=owner.tenant, client=client, **fields)


def idempotent_id(request: web.Request, api: str) -> str:
    """The id that the header `Idempotency-Key` stands for at this API, or ""."""
    key = idempotency_key(request)
    return keyed_id(api, key) if key else ""


def idempotency_key(request: web.Request) -> str:
    """The header `Idempotency-Key`, "" if there is none. Raises Invalid."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not 0 < len(key) <= _MAX_KEY_CHARS:
        raise Invalid(
            f"Idempotency-Key: has {len(key)} characters, allowed are 1 to {_MAX_KEY_CHARS}", "Idempotency-Key"
        )
    return key


def traceparent(request: web.Request) -> str:
    """W3C trace context, if it can be one."""
    return wire.traceparent_or_empty(request.headers.get("traceparent", ""))


def our_model(fleet: Fleet, name: str, foreign: Container[str], default: str = DEFAULT_MODEL) -> str:
    """The model that a foreign API's `name` stands for: `default`, unless a worker offers one of that very name."""
    if not name or (name in foreign and fleet.card(name) is None):
        return default
    return name


def our_voice(name: str, foreign: Container[str], card: ModelCard) -> str:
    """`name`, or "" (the model's default) for a foreign voice that the model does not have."""
    if name in foreign and all(voice.id != name for voice in card.voices):
        return ""
    return name
