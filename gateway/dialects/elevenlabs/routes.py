"""ElevenLabs' text to speech over HTTP: integer, as a stream, and either with the time of each character."""

from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from gateway.access.caller import caller
from gateway.api.job_fields import KEY, JobOptions, Text, build_job, schema
from gateway.codecs import Format
from gateway.dialects.elevenlabs import names
from gateway.dialects.elevenlabs.errors import Refusal, TextTooLong, concurrency, refusal
from gateway.dialects.elevenlabs.timing import Chunk, answer_lines, answer_whole
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import LINES, SOUND, Answer, Parameter, operation
from gateway.http.query import integer
from gateway.http.services import FLEET, JOBS, LIMITER
from gateway.streaming.live import Headers, respond, stream_for

_API: Final = "elevenlabs"
_MAX_SEED: Final = 4_294_967_295
_MIN_SPEED, _MAX_SPEED = 0.25, 4.0
_FIELDS: Final = {
    "input": "text",
    "model": "model_id",
    "params.speed": "voice_settings.speed",
}


class VoiceSettings(msgspec.Struct, frozen=True):
    """No engine of ours has any of these but `speed`."""

    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    speed: Annotated[float, schema("Of speaking, or of playing.", minimum=_MIN_SPEED, maximum=_MAX_SPEED)] | None = None


class Locator(msgspec.Struct, frozen=True):
    pronunciation_dictionary_id: str
    version_id: str | None = None


_Requests = Annotated[list[str], Meta(max_length=3)]


class Speech(JobOptions, frozen=True, kw_only=True):
    """ElevenLabs' fields, then ours. What our engines cannot honour is checked for its type and ignored."""

    text: Text
    model_id: Annotated[str, schema("Ours, or one of theirs.")] | None = None
    language_code: str | None = None
    voice_settings: VoiceSettings | None = None
    pronunciation_dictionary_locators: Annotated[list[Locator], Meta(max_length=3)] | None = None
    seed: Annotated[int, Meta(ge=0, le=_MAX_SEED)] | None = None  # type: ignore[assignment]  # theirs may be null
    previous_text: str | None = None
    next_text: str | None = None
    previous_request_ids: _Requests | None = None
    next_request_ids: _Requests | None = None
    use_pvc_as_ivc: bool | None = None
    apply_text_normalization: Literal["auto", "on", "off"] | None = None
    apply_language_text_normalization: bool | None = None


_body: Final = Body(Speech)


_PARAMETERS: Final = (
    Parameter("voice_id", str, "One of ours; for one of theirs the model's default speaks.", where="path"),
    names.output_format(names.SPEECH_FORMATS, names.DEFAULT_FORMAT),
    KEY,
    Parameter("optimize_streaming_latency", Annotated[int, Meta(ge=0, le=4)], "Ignored: nothing is held back."),
)


@operation(
    "Speech, as it comes.",
    body=Speech,
    parameters=_PARAMETERS,
    answers={200: Answer("The sound.", None, SOUND)},
)
async def speech(request: web.Request) -> web.StreamResponse:
    """`POST /v1/text-to-speech/{voice_id}` and `…/stream`: the sound from its first block on."""
    job, form = await _asked(request)
    return await respond(request, job, form, _headers(request, job.input))


@operation(
    "Speech and the time of each character, in one object.",
    body=Speech,
    parameters=_PARAMETERS,
    answers={200: Answer("All of it; an alignment is null if the engine does not know one.", Chunk)},
)
async def with_timestamps(request: web.Request) -> web.StreamResponse:
    """`POST …/with-timestamps`: one JSON object, written as the sound is made."""
    job, form = await _asked(request)
    async with stream_for(request, job) as stream:
        return await answer_whole(request, stream, form, job.input, _headers(request, job.input))


@operation(
    "Speech and the time of each character, as they come.",
    body=Speech,
    parameters=_PARAMETERS,
    answers={200: Answer("A line for each piece; times count from the beginning of the sound.", Chunk, LINES)},
)
async def stream_with_timestamps(request: web.Request) -> web.StreamResponse:
    """`POST …/stream/with-timestamps`: a JSON object a line."""
    job, form = await _asked(request)
    async with stream_for(request, job) as stream:
        return await answer_lines(request, stream, form, job.input, _headers(request, job.input))


def _headers(request: web.Request, text: str) -> Headers:
    """Theirs. The cost is what was sent to be spoken, in characters: nobody pays."""

    def headers(job_id: str) -> dict[str, str]:
        jobs = request.app[LIMITER].jobs.num_jobs(caller(request))
        told = {"request-id": job_id, "character-cost": str(len(text))}
        return told if jobs is None else told | concurrency(*jobs)

    return headers


async def _asked(request: web.Request) -> tuple[wire.Job, Format]:
    """The job, complete, and how its sound is wanted. Raises what is wrong with the request."""
    service = request.app[JOBS]
    data = await request.read()
    form = names.format_of(request.query.get("output_format", names.DEFAULT_FORMAT), names.SPEECH_FORMATS)
    integer(request, "optimize_streaming_latency", 0, 4)
    asked = _body.read(data)
    model = names.speech_model(request.app[FLEET], asked.model_id or "")
    card = service.card(model, asked.version)
    if len(asked.text) > card.max_input_chars:
        raise TextTooLong(
            f"This request's text has {len(asked.text)} characters and exceeds the character limit of "
            f"{card.max_input_chars} characters of the model {model!r}."
        )
    params, speed = _speed(asked, card)
    job = build_job(
        request,
        _API,
        msgspec.structs.replace(asked, seed=asked.seed or 0),
        input=asked.text,
        model=model,
        voice=names.speech_voice(request.match_info["voice_id"], asked.language_code or "", card),
        params=params,
    )
    complete = service.validate(job, streams=True, size_hint_bytes=len(data))
    return complete, msgspec.structs.replace(form, speed=speed)


def _speed(asked: Speech, card: ModelCard) -> tuple[dict[str, Any], float]:
    """The engine's params and the speed of playing: an engine that has no speed of its own is played at it."""
    settings = asked.voice_settings
    speed = settings.speed if settings is not None else None
    if speed is None:
        return asked.params, 1.0
    if not _MIN_SPEED <= speed <= _MAX_SPEED:
        raise Invalid(
            f"voice_settings.speed: must be from {_MIN_SPEED} to {_MAX_SPEED:g}, not {speed:g}",
            "voice_settings.speed",
        )
    if names.knows(card, "speed"):
        return {"speed": speed, **asked.params}, 1.0
    return asked.params, speed


_PATH: Final = "/v1/text-to-speech/{voice_id}"
DIALECT: Final = Dialect(
    prefixes=("/v1/text-to-speech/",),
    routes=(
        web.post(_PATH, speech),
        web.post(f"{_PATH}/stream", speech),
        web.post(f"{_PATH}/with-timestamps", with_timestamps),
        web.post(f"{_PATH}/stream/with-timestamps", stream_with_timestamps),
    ),
    refuse=refusal(_FIELDS),
    name="elevenlabs",
    envelope=Refusal,
)
