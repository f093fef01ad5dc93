"""ElevenLabs' text to speech over HTTP: streamed audio, and audio with the time of each character."""

from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from bus.options import schema
from gateway.access.caller import caller
from gateway.api.job_fields import KEY, JobOptions, Text, build_job
from gateway.codecs import Format
from gateway.dialects.elevenlabs import names
from gateway.dialects.elevenlabs.errors import ErrorResponse, TextTooLong, concurrency_headers, refuser
from gateway.dialects.elevenlabs.names import MAX_SEED, MAX_SPEED, MIN_SPEED
from gateway.dialects.elevenlabs.timing import Chunk, respond_with_lines, respond_with_object
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import AUDIO, LINES, Answer, Parameter, operation
from gateway.http.query import integer
from gateway.http.services import JOBS, LIMITER
from gateway.streaming.live import Headers, respond, stream_for

_API: Final = "elevenlabs"
_FIELDS: Final = {
    "input": "text",
    "model": "model_id",
    "params.speed": "voice_settings.speed",
}


class VoiceSettings(msgspec.Struct, frozen=True):
    """ElevenLabs' settings of a voice, of which engines here support `speed` at most."""

    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    speed: (
        Annotated[
            float,
            schema("Speed of speaking, or of playing if the engine has none.", minimum=MIN_SPEED, maximum=MAX_SPEED),
        ]
        | None
    ) = None


class Locator(msgspec.Struct, frozen=True):
    """A reference to a pronunciation dictionary, which is ignored."""

    pronunciation_dictionary_id: str
    version_id: str | None = None


_RequestIds = Annotated[list[str], Meta(max_length=3)]


class SpeechRequest(JobOptions, frozen=True, kw_only=True):
    """ElevenLabs' fields, then ours. Fields that no engine supports are checked for their type and ignored."""

    text: Text
    model_id: Annotated[str, schema("One of our models, or of ElevenLabs'.")] | None = None
    language_code: str | None = None
    voice_settings: VoiceSettings | None = None
    pronunciation_dictionary_locators: Annotated[list[Locator], Meta(max_length=3)] | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] | None = None  # type: ignore[assignment]  # theirs may be null
    previous_text: str | None = None
    next_text: str | None = None
    previous_request_ids: _RequestIds | None = None
    next_request_ids: _RequestIds | None = None
    use_pvc_as_ivc: bool | None = None
    apply_text_normalization: Literal["auto", "on", "off"] | None = None
    apply_language_text_normalization: bool | None = None


SPEECH: Final = Body(SpeechRequest)


_PARAMETERS: Final = (
    Parameter("voice_id", str, "One of our voices; one of ElevenLabs' stands for the model's default.", where="path"),
    names.output_format(names.SPEECH_FORMATS, names.DEFAULT_FORMAT),
    KEY,
    Parameter("optimize_streaming_latency", Annotated[int, Meta(ge=0, le=4)], "Ignored: audio is never held back."),
)


@operation(
    "Convert text to speech, streamed as it is made.",
    body=SpeechRequest,
    parameters=_PARAMETERS,
    answers={200: Answer("The audio.", None, AUDIO)},
)
async def speech(request: web.Request) -> web.StreamResponse:
    """`POST /v1/text-to-speech/{voice_id}` and `…/stream`: the audio from its first block on."""
    job, form = await _job_and_format(request)
    return await respond(request, job, form, response_headers(request, job.input))


@operation(
    "Convert text to speech, with the time of each character, in one object.",
    body=SpeechRequest,
    parameters=_PARAMETERS,
    answers={200: Answer("The whole audio; the alignments are null if the engine marks no words.", Chunk)},
)
async def with_timestamps(request: web.Request) -> web.StreamResponse:
    """`POST …/with-timestamps`: one JSON object, written as the audio is made."""
    job, form = await _job_and_format(request)
    async with stream_for(request, job) as stream:
        return await respond_with_object(request, stream, form, job.input, response_headers(request, job.input))


@operation(
    "Convert text to speech, with the time of each character, streamed as it is made.",
    body=SpeechRequest,
    parameters=_PARAMETERS,
    answers={200: Answer("A line for each piece; times count from the beginning of the audio.", Chunk, LINES)},
)
async def stream_with_timestamps(request: web.Request) -> web.StreamResponse:
    """`POST …/stream/with-timestamps`: a JSON object per line."""
    job, form = await _job_and_format(request)
    async with stream_for(request, job) as stream:
        return await respond_with_lines(request, stream, form, job.input, response_headers(request, job.input))


def response_headers(request: web.Request, text: str) -> Headers:
    """ElevenLabs' response headers. The cost is the number of characters; nothing is charged."""

    def headers(job_id: str) -> dict[str, str]:
        """The headers once the job's id is known."""
        own = {"request-id": job_id, "character-cost": str(len(text))}
        jobs = request.app[LIMITER].jobs.num_jobs(caller(request))
        return own if jobs is None else own | concurrency_headers(*jobs)

    return headers


async def _job_and_format(request: web.Request) -> tuple[wire.Job, Format]:
    """The request's validated job, and the format of its audio. Raises as `Validation.complete` does; TextTooLong."""
    jobs = request.app[JOBS]
    data = await request.read()
    form = names.format_of(request.query.get("output_format", names.DEFAULT_FORMAT), names.SPEECH_FORMATS)
    integer(request, "optimize_streaming_latency", 0, 4)
    body = SPEECH.read(data)
    model = names.speech_model(request, body.model_id or "", body.version)
    card = jobs.card(model.model, model.version)
    if len(body.text) > card.max_input_chars:
        raise TextTooLong("text", len(body.text), card.max_input_chars, card.name)
    params, speed = _params_and_speed(body, card)
    params = names.with_breaks(params, body.text, card)
    job = build_job(
        request,
        _API,
        msgspec.structs.replace(body, seed=body.seed or 0),
        model,
        input=body.text,
        voice=names.speech_voice(request.match_info["voice_id"], card),
        params=params,
    )
    language = (body.language_code or "").casefold()
    job = jobs.validate(job, streams=True, size_hint_bytes=len(data), language=language)
    return job, msgspec.structs.replace(form, speed=speed)


def _params_and_speed(body: SpeechRequest, card: ModelCard) -> tuple[dict[str, Any], float]:
    """The engine's params and the speed of playing, which is 1.0 if the engine has a speed itself. Raises Invalid."""
    settings = body.voice_settings
    speed = settings.speed if settings is not None else None
    if speed is None:
        return body.params, 1.0
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise Invalid(
            f"voice_settings.speed: must be from {MIN_SPEED} to {MAX_SPEED:g}, not {speed:g}",
            "voice_settings.speed",
        )
    if names.has_param(card, "speed"):
        return {"speed": speed, **body.params}, 1.0
    return body.params, speed


_PATH: Final = "/v1/text-to-speech/{voice_id}"
DIALECT: Final = Dialect(
    name="elevenlabs",
    title="ElevenLabs",
    prefixes=("/v1/text-to-speech/",),
    routes=(
        web.post(_PATH, speech),
        web.post(f"{_PATH}/stream", speech),
        web.post(f"{_PATH}/with-timestamps", with_timestamps),
        web.post(f"{_PATH}/stream/with-timestamps", stream_with_timestamps),
    ),
    refuse=refuser(_FIELDS),
    envelope=ErrorResponse,
)
