"""What a speech request of OpenAI's kind asks for, as a job of ours and the format of its answer."""

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from bus.params import short
from gateway.api.job_fields import Coded, JobOptions, Model, Speed, Text, Voice, build_job, our_model, our_voice, schema
from gateway.codecs import PCM, Format, checked, format_named
from gateway.http.bodies import Body
from gateway.http.services import FLEET, JOBS

API: Final = "openai"
#: Until routes map names: what OpenAI's clients ask for, where no worker has a model of that name.
MODELS: Final = frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"})
VOICES: Final = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)
DEFAULT_FORMAT: Final = "mp3"
PCM_RATE_HZ: Final = 24_000
STREAM_FORMATS: Final = ("audio", "sse")


class VoiceRef(msgspec.Struct, frozen=True):
    id: Voice


class Speech(JobOptions, frozen=True, kw_only=True):
    """OpenAI's fields, then ours. Fields nobody knows are ignored: many clients send extras of other servers."""

    input: Text
    model: Model = ""
    voice: Voice | VoiceRef | None = None
    response_format: Coded | None = None
    speed: Speed | None = None
    instructions: Annotated[str, schema("How it is to be said, for an engine that can be told.")] | None = None
    stream_format: Annotated[str, schema("`sse`: server-sent events.", enum=[*STREAM_FORMATS])] | None = None
    #: Not OpenAI's, but its imitators'.
    stream: Annotated[bool, schema("False: the whole at once, with its length; else as it comes.")] | None = None


body: Final = Body(Speech)


def order(request: web.Request, asked: Speech, size_hint_bytes: int, job_id: str = "") -> tuple[wire.Job, Format]:
    """The complete job, and what its sound is to be played as. Raises as `Validation.complete` does."""
    form = _format(asked)
    jobs = request.app[JOBS]
    model = our_model(request.app[FLEET], asked.model, MODELS)
    card = jobs.card(model, asked.version)
    params, is_applied = _params(asked, card)
    voice = asked.voice.id if isinstance(asked.voice, VoiceRef) else asked.voice or ""
    job = build_job(
        request,
        API,
        asked,
        input=asked.input,
        model=model,
        voice=our_voice(voice, VOICES, card),
        params=params,
        job_id=job_id,
    )
    job = jobs.validate(job, streams=True, size_hint_bytes=size_hint_bytes)
    return job, msgspec.structs.replace(form, speed=1.0) if is_applied else form


def _format(asked: Speech) -> Format:
    """Raises Invalid."""
    form = format_named(asked.response_format or DEFAULT_FORMAT, "response_format")
    if form.codec == PCM.codec and asked.model in MODELS:
        # It tells no rate, and who asks by OpenAI's names plays it at OpenAI's.
        form = msgspec.structs.replace(form, rate_hz=PCM_RATE_HZ)
    return form if asked.speed is None else checked(msgspec.structs.replace(form, speed=asked.speed))


def _params(asked: Speech, card: ModelCard) -> tuple[dict[str, Any], bool]:
    """The engine's parameters, `speed` and `instructions` among them where it knows them, and whether it knows speed.

    Of the same name in `params`, the latter counts.
    """
    known = card.param_schema.get("properties", {})
    params = asked.params
    if asked.speed is not None and "speed" in known:
        params = {"speed": asked.speed, **params}
    if asked.instructions and "instructions" in known:
        params = {"instructions": asked.instructions, **params}
    return params, "speed" in known


def wants_events(request: web.Request, asked: Speech) -> bool:
    """Whether the answer is server-sent events. Raises Invalid."""
    if asked.stream_format not in {None, *STREAM_FORMATS}:
        given = short(str(asked.stream_format))
        raise Invalid(f"stream_format: {given!r} is not one of {', '.join(STREAM_FORMATS)}", "stream_format")
    if asked.stream_format is None:
        return request.headers.get("Accept", "").startswith("text/event-stream")
    return asked.stream_format == "sse"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What OpenAI calls usage. No engine of ours counts tokens, so there are none; what is known stands beside them."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_characters: int
    output_seconds: float


def usage(job: wire.Job, done: wire.Done) -> Usage:
    return Usage(input_characters=len(job.input), output_seconds=done.seconds)
