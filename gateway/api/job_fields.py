"""What every door of ours may be told beside its own fields, and the way from there to a job."""

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


def told(text: str, **limits: Any) -> Meta:
    """For the document alone: `limits`, in words of JSON Schema, are admission's to check, with more to say of them."""
    return Meta(description=text, extra_json_schema=limits)


_CONTROL: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
#: What sound can be made of.
Text = Annotated[
    str,
    told(
        "What is to be heard: not empty, no control characters but tab and line ends.",
        minLength=1,
        pattern=rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$",
    ),
]
Model = Annotated[str, told("As `/v1/models` lists it; empty: the door's default.")]
Voice = Annotated[str, told("One of the model's; empty: its default.")]
Speed = Annotated[float, told("Of what is heard; the pitch stays.", minimum=MIN_SPEED, maximum=MAX_SPEED)]
Coded = Annotated[str, told("How the sound is encoded; empty: as the door has it.", enum=["", *FORMATS])]


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """A door's body extends it; fields are those of `wire.Job`."""

    version: Annotated[str, told("Of the model; empty: the one that is offered.")] = ""
    params: Annotated[dict[str, Any], told("For the engine, in its own words: the model's card has their schema.")] = {}
    seed: Annotated[int, told("Of the engine's chance.", minimum=0, maximum=MAX_SEED)] = 0
    lane: Annotated[str, told("Empty: as the door has it.", enum=["", *LANES])] = ""
    expires_at: Annotated[datetime, told("With an offset from UTC; within 12 h.", format="date-time")] | None = None
    first_audio_deadline_s: (
        Annotated[float, told("Seconds to its first sound, or it expires.", exclusiveMinimum=0, maximum=MAX_DEADLINE_S)]
        | None
    ) = None
    run_on: Annotated[bool, told("Whether it goes on when nobody listens; null: as the door has it.")] | None = None
    linger_s: Annotated[float, told("Seconds that it waits for a listener.", minimum=0, maximum=MAX_LINGER_S)] = 0.0


class Asked(Wishes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The native API's body: a `wire.Job` less what is not the caller's to say."""

    input: Text
    id: Annotated[str, told("The caller's name for the job; empty: one is made.", pattern="^[A-Za-z0-9_-]{0,64}$")] = ""
    model: Model = ""
    voice: Voice = ""


class AskedJob(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """And whom to tell of it."""

    webhook: Webhook | None = None


def to_job(
    request: web.Request,
    api: str,
    wishes: Wishes,
    *,
    input: str,  # noqa: A002 - the field's name on the wire
    model: str = "",
    voice: str = "",
    params: dict[str, Any] | None = None,
    job_id: str = "",
) -> wire.Job:
    """The caller's job, before admission. `params`: instead of the wishes'. Raises Invalid for its Idempotency-Key.

    Without an id, unless the request wants no part in other requests' runs: admission gives it one.
    """
    asks = caller(request)
    job_id = job_id or idempotent_id(request, api) or (uuid.uuid4().hex if refuses_cache(request) else "")
    return wire.Job(
        id=job_id,
        input=input,
        model=model,
        version=wishes.version,
        voice=voice,
        params=wishes.params if params is None else params,
        seed=wishes.seed,
        lane=wishes.lane,
        tenant=asks.tenant,
        expires_at=wishes.expires_at,
        first_audio_deadline_s=wishes.first_audio_deadline_s,
        run_on=wishes.run_on,
        linger_s=wishes.linger_s,
        client=wire.Client(api=api, traceparent=traceparent(request), key=asks.key),
    )


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
