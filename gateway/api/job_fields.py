"""The options that a request to any API may have beside the API's own fields, and the job that they make."""

import functools
import uuid
from collections.abc import Container
from typing import Annotated, Any, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from bus import options as bus_options
from bus import wire
from bus.fleet.fleet import Fleet
from bus.fleet.messages import ModelCard
from bus.jobs.submit import keyed_id
from bus.options import HOPS_HEADER, schema
from bus.script import MAX_TURNS, Turn
from bus.webhook import Webhook
from gateway.access.caller import CALLER
from gateway.api.routing import Chosen, routed
from gateway.codecs.format import FORMATS, MAX_RATE_HZ, MAX_SPEED, MIN_RATE_HZ, MIN_SPEED
from gateway.http.headers import MAX_IDEMPOTENCY_KEY_CHARS, hops, idempotency_key, refuses_cache, traceparent
from gateway.http.operation import Parameter
from gateway.http.services import FLEET, ROUTES
from gateway.jobs.validation import DEFAULT_MODEL

KEY: Final = Parameter(
    "Idempotency-Key",
    Annotated[str, Meta(min_length=1, max_length=MAX_IDEMPOTENCY_KEY_CHARS)],
    "The same body sent again with the same key answers with the same job.",
    where="header",
)


_CONTROL: Final = r"\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
#: Text that audio can be made of.
Text = Annotated[
    str,
    schema(
        "The text or prompt: not empty, no control characters but white space.",
        minLength=1,
        pattern=rf"^[^{_CONTROL}]*[^\s\u0085{_CONTROL}][^{_CONTROL}]*$",
    ),
]
#: OpenAI's names of models; clients write them at other APIs too.
OPENAI_MODELS: Final = frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"})
#: OpenAI's names of voices.
OPENAI_VOICES: Final = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)
Model = Annotated[str, schema("A model of `/v1/models`; empty: this API's default.")]
Voice = Annotated[str, schema("A voice of the model; empty: the model's default.")]
Speed = Annotated[float, schema("Playing speed, with the pitch unchanged.", minimum=MIN_SPEED, maximum=MAX_SPEED)]
Coded = Annotated[str, schema("Format of the audio; empty: this API's default.", enum=["", *FORMATS])]
SampleRate = Annotated[
    int,
    Meta(ge=MIN_RATE_HZ, le=MAX_RATE_HZ),
    schema("Samples per second, converted; null: the codec's, else the model's."),
]


class JobOptions(bus_options.JobOptions, frozen=True, kw_only=True, omit_defaults=False):
    """The options of `wire.Job` that a request to any API may have; the body of an API extends it."""


class TurnRequest(Turn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A turn of a script, as a caller writes it."""

    text: Text


Script = Annotated[
    list[TurnRequest],
    schema(
        "Turns of several voices, spoken as one sound; in the place of `input`, for models whose card says `scripts`.",
        maxItems=MAX_TURNS,
    ),
]


class JobRequest(JobOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The native API's request: the fields of `wire.Job` that a caller may set."""

    input: Text = ""
    script: Script = msgspec.field(default_factory=list)
    id: Annotated[str, schema("The caller's id for the job; empty: a random one.", pattern="^[A-Za-z0-9_-]{0,64}$")] = (
        ""
    )
    model: Model = ""
    voice: Voice = ""
    inputs: Annotated[
        dict[str, str],
        schema("Files by the name on the model's card: digests that `PUT /v1/blobs` answered."),
    ] = msgspec.field(default_factory=dict)


class WebhookRequest(Webhook, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The receiver of a job's events, as a caller names it."""


class HttpJobRequest(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The native API's request over HTTP, which may name a webhook."""

    webhook: WebhookRequest | None = None


def build_job(
    request: web.Request, api: str, options: JobOptions, model: Chosen, *, job_id: str = "", **fields: Any
) -> wire.Job:
    """The caller's job, before validation. `model`: by `our_model`.

    It has the fields that `options` shares with `wire.Job`; `fields`, named as there, replace them. The id is `job_id`,
    else that of the Idempotency-Key, else a random one if the request refuses the result cache, else "": validation
    then chooses one. Raises Invalid for the Idempotency-Key.
    """
    owner = request[CALLER]
    job_id = job_id or idempotent_id(request, api)
    if not job_id and hdrs.CACHE_CONTROL in request.headers and refuses_cache(request):
        job_id = uuid.uuid4().hex
    trace = request.headers.get("traceparent")
    client = wire.Client(api=api, traceparent=traceparent(trace) if trace else "", key=owner.key)
    if HOPS_HEADER in request.headers:
        fields["hops"] = hops(request)
    return job_from(options, id=job_id, tenant=owner.tenant, client=client, **model._asdict(), **fields)


def job_from(options: msgspec.Struct, **fields: Any) -> wire.Job:
    """A job from the fields that `options` has in common with `wire.Job`, by name; `fields` replace them.

    Any other field of `options` is its API's own. Checks no values. Raises TypeError for a name in `fields` that is no
    field of `wire.Job`, and if neither side has `input`.
    """
    return wire.Job(**({field: getattr(options, field) for field in _shared_fields(type(options))} | fields))


@functools.cache
def _shared_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field for field in kind.__struct_fields__ if field in wire.Job.__struct_fields__)


def idempotent_id(request: web.Request, api: str) -> str:
    """The id that the header `Idempotency-Key` stands for in this API; "" without it."""
    if "Idempotency-Key" not in request.headers:
        return ""
    return keyed_id(api, idempotency_key(request))


def own_model(fleet: Fleet, name: str, foreign: Container[str] = (), default: str = DEFAULT_MODEL) -> str:
    """The model that `name` stands for without a route: `default` for "" and a name in `foreign` that is not ours."""
    return default if not name or (name in foreign and fleet.card(name) is None) else name


def our_model(
    request: web.Request,
    name: str,
    foreign: Container[str] = (),
    default: str = DEFAULT_MODEL,
    *,
    version: str = "",
    job_id: str = "",
) -> Chosen:
    """The model and version that answer `name`: those of its route, else of the model that it stands for.

    A name in `foreign` stands for `default`, unless a worker offers a model of that very name. `version`: as in the
    request. `job_id`: of the job, if its caller chose it. Raises NoWorker for a route to a version that no worker has.
    """
    own = own_model(request.app[FLEET], name, foreign, default)
    if request.app[ROUTES].entries:
        return routed(request, name or default, own, version, job_id)
    return Chosen(own, version)


def our_voice(name: str, foreign: Container[str], card: ModelCard) -> str:
    """`name`, or "" (the model's default) for a foreign voice that the model does not have."""
    if name in foreign and all(voice.id != name for voice in card.voices):
        return ""
    return name
