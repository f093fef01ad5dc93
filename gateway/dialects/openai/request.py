"""OpenAI's speech request, and the job and audio format that it stands for."""

import re
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from bus.options import schema
from bus.params import short
from gateway.api.job_fields import (
    OPENAI_MODELS,
    OPENAI_VOICES,
    Coded,
    JobOptions,
    Model,
    SampleRate,
    Script,
    Speed,
    Text,
    Voice,
    build_job,
    our_model,
    our_voice,
)
from gateway.codecs import PCM, Format, checked, format_named
from gateway.http.bodies import Body
from gateway.http.headers import IGNORED_HEADER
from gateway.http.services import JOBS

API: Final = "openai"
#: OpenAI's names of models. Each stands for our default model, unless a worker offers a model of that very name.
MODELS: Final = OPENAI_MODELS
#: OpenAI's names of voices. Each stands for the model's default voice, unless the model has a voice of that name.
VOICES: Final = OPENAI_VOICES
DEFAULT_FORMAT: Final = "mp3"
#: The rate of OpenAI's own PCM.
PCM_RATE_HZ: Final = 24_000
STREAM_FORMATS: Final = ("audio", "sse")
#: Names of params as models have them; `ignored_header` shows at most so many.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_MAX_SHOWN: Final = 20


class VoiceRef(msgspec.Struct, frozen=True):
    """A voice as an object, the form that OpenAI uses for custom voices."""

    id: Voice


class SpeechRequest(JobOptions, frozen=True, kw_only=True):
    """OpenAI's fields, then ours. Unknown fields are ignored: many clients send extras of other servers."""

    input: Text = ""
    #: Ours.
    script: Script = msgspec.field(default_factory=list)
    model: Model = ""
    voice: Voice | VoiceRef | None = None
    response_format: Coded | None = None
    speed: Speed | None = None
    instructions: Annotated[str, schema("How to speak, for engines that take instructions.")] | None = None
    stream_format: Annotated[str, schema("`sse`: server-sent events.", enum=[*STREAM_FORMATS])] | None = None
    #: Ours: OpenAI's PCM has one rate, our models' differ.
    sample_rate: SampleRate | None = None
    #: Not a field of OpenAI's, but of servers that imitate it.
    stream: (
        Annotated[bool, schema("False: one response with its length, once all audio is made; else streamed.")] | None
    ) = None


SPEECH: Final = Body(SpeechRequest)


def build_speech_job(
    request: web.Request,
    body: SpeechRequest,
    size_hint_bytes: int,
    job_id: str = "",
    *,
    foreign_params: bool = False,
) -> tuple[wire.Job, Format]:
    """The validated job, and the format of the audio. Raises as `Validation.complete` does.

    `job_id`: "" for the one that the Idempotency-Key or the job's content gives. `foreign_params`: drop the params that
    the model does not have, as other fields that only other servers have (`ignored_header` names them); else they are
    refused.
    """
    form = _format(body)
    jobs = request.app[JOBS]
    model = our_model(request, body.model, MODELS, version=body.version, job_id=job_id)
    card = jobs.card(model.model, model.version)
    params, engine_has_speed = _params(body, card, foreign_params=foreign_params)
    voice = body.voice.id if isinstance(body.voice, VoiceRef) else body.voice or ""
    job = build_job(
        request,
        API,
        body,
        model,
        voice=our_voice(voice, VOICES, card),
        params=params,
        job_id=job_id,
    )
    job = jobs.validate(job, streams=True, size_hint_bytes=size_hint_bytes)
    return job, msgspec.structs.replace(form, speed=1.0) if engine_has_speed else form


def _format(body: SpeechRequest) -> Format:
    """The audio format of the response, `speed` included. Raises Invalid."""
    form = format_named(body.response_format or DEFAULT_FORMAT, "response_format")
    if body.sample_rate is not None:
        form = checked(msgspec.structs.replace(form, rate_hz=body.sample_rate), rate="sample_rate")
    elif form.codec == PCM.codec and body.model in MODELS:
        # Raw PCM does not state its rate, and clients that use OpenAI's names play it at OpenAI's rate.
        form = msgspec.structs.replace(form, rate_hz=PCM_RATE_HZ)
    return form if body.speed is None else checked(msgspec.structs.replace(form, speed=body.speed))


def _params(body: SpeechRequest, card: ModelCard, *, foreign_params: bool) -> tuple[dict[str, Any], bool]:
    """The engine's params, with `speed` and `instructions` if it has them; and whether it has `speed`.

    A value in `params` takes precedence over the field of the same name.
    """
    known = card.param_schema.get("properties", {})
    params = body.params
    if params and foreign_params:
        params = {name: value for name, value in params.items() if name in known}
    if body.speed is not None and "speed" in known:
        params = {"speed": body.speed, **params}
    if body.instructions and "instructions" in known:
        params = {"instructions": body.instructions, **params}
    return params, "speed" in known


def ignored_header(given: dict[str, Any], job: wire.Job) -> dict[str, str]:
    """The header that names the params of a request which its job does not have; {} if it has all of them."""
    # The names are the client's: they must fit a header, and no number of them may fill it.
    ignored = [name if _NAME.fullmatch(name) else "?" for name in given if name not in job.params]
    shown = [f"params.{name}" for name in dict.fromkeys(ignored)]
    if len(shown) > _MAX_SHOWN:
        shown = [*shown[:_MAX_SHOWN], f"and {len(shown) - _MAX_SHOWN} more"]
    return {IGNORED_HEADER: ", ".join(shown)} if shown else {}


def wants_events(request: web.Request, body: SpeechRequest) -> bool:
    """Whether the response is server-sent events: by `stream_format`, else by the header Accept. Raises Invalid."""
    if body.stream_format not in {None, *STREAM_FORMATS}:
        given = short(str(body.stream_format))
        raise Invalid(f"stream_format: {given!r} is not one of {', '.join(STREAM_FORMATS)}", "stream_format")
    if body.stream_format is None:
        return request.headers.get("Accept", "").startswith("text/event-stream")
    return body.stream_format == "sse"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's usage figures. The token counts are 0, since no engine counts tokens; two figures of ours follow."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_characters: int
    #: Seconds of audio.
    output_seconds: float


def usage(job: wire.Job, done: wire.Done) -> Usage:
    """The usage of a job that is done."""
    return Usage(input_characters=len(wire.text_of(job)), output_seconds=done.seconds)
