"""ElevenLabs' text to dialogue over HTTP: turns of several voices in, one sound out. It is one job with a script."""

import re
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.fleet.messages import ModelCard
from bus.options import schema
from bus.script import MAX_TURNS, Turn, joined
from gateway.api.job_fields import KEY, JobOptions, Text, build_job
from gateway.dialects.elevenlabs import names
from gateway.dialects.elevenlabs.errors import ErrorResponse, TextTooLong, refuser
from gateway.dialects.elevenlabs.names import MAX_SEED
from gateway.dialects.elevenlabs.routes import response_headers
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import AUDIO, Answer, operation
from gateway.http.problems import Problem
from gateway.http.services import JOBS
from gateway.streaming.live import respond

_API: Final = "elevenlabs-dialogue"
#: ElevenLabs' names of the fields of a turn.
_FIELDS: Final = {"text": "text", "voice": "voice_id"}
_PLACE: Final = re.compile(r"script(?:\[(\d+)\]\.(text|voice))?")


class Input(msgspec.Struct, frozen=True):
    """A turn: a text and the voice that speaks it."""

    text: Text
    voice_id: str

    def turn(self, card: ModelCard) -> Turn:
        """The turn of a script. ElevenLabs' voices become different ones of the model, as far as it has them."""
        voice = names.speech_voice(self.voice_id, card)
        is_theirs = not voice and self.voice_id != names.DEFAULT_VOICE
        return Turn(text=self.text, speaker=self.voice_id if is_theirs else "", voice=voice)


class DialogueRequest(JobOptions, frozen=True, kw_only=True):
    """ElevenLabs' fields, then ours. Fields that no engine supports are ignored."""

    #: Not the `inputs` of a job.
    turns: Annotated[list[Input], Meta(min_length=1, max_length=MAX_TURNS)] = msgspec.field(name="inputs")
    model_id: Annotated[str, schema("One of our models, or of ElevenLabs'.")] | None = None
    language_code: str | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] | None = None  # type: ignore[assignment]  # theirs may be null
    apply_text_normalization: Literal["auto", "on", "off"] | None = None


_DIALOGUE: Final = Body(DialogueRequest)


@operation(
    "Convert a dialogue to speech: turns of several voices, one sound, streamed as it is made.",
    body=DialogueRequest,
    parameters=(KEY, names.output_format(names.SPEECH_FORMATS, names.DEFAULT_FORMAT)),
    answers={200: Answer("The audio.", None, AUDIO)},
)
async def dialogue(request: web.Request) -> web.StreamResponse:
    """`POST /v1/text-to-dialogue` and `…/stream`: the audio from its first block on."""
    data = await request.read()
    form = names.format_of(request.query.get("output_format", names.DEFAULT_FORMAT), names.SPEECH_FORMATS)
    job = _job(request, _DIALOGUE.read(data), len(data))
    spoken = "".join(turn.text for turn in job.script)
    return await respond(request, job, form, response_headers(request, spoken))


def _job(request: web.Request, body: DialogueRequest, size_hint_bytes: int) -> wire.Job:
    """The validated job. Raises as `Validation.complete` does; TextTooLong."""
    jobs = request.app[JOBS]
    model = names.speech_model(request, body.model_id or "", body.version)
    card = jobs.card(model.model, model.version)
    script = [each.turn(card) for each in body.turns]
    text = joined(script)
    if len(text) > card.max_input_chars:
        raise TextTooLong("inputs", len(text), card.max_input_chars, card.name)
    params = body.params
    for index, turn in enumerate(script):
        params = names.with_breaks(params, turn.text, card, f"script[{index}].text")
    job = build_job(
        request,
        _API,
        msgspec.structs.replace(body, seed=body.seed or 0),
        model,
        script=script,
        params=params,
    )
    language = (body.language_code or "").casefold()
    return jobs.validate(job, streams=True, size_hint_bytes=size_hint_bytes, language=language)


_refuse: Final = refuser({"model": "model_id"})


def refuse(problem: Problem) -> web.Response:
    """A response in ElevenLabs' envelope, about a field of `inputs` in the place of one of our script."""
    found = _PLACE.fullmatch(problem.path)
    if found is not None:
        place = f"inputs.{found[1]}.{_FIELDS[found[2]]}" if found[1] else "inputs"
        detail = problem.detail.replace(problem.path, place, 1)
        problem = msgspec.structs.replace(problem, path="voice" if found[2] == "voice" else place, detail=detail)
    return _refuse(problem)


DIALECT: Final = Dialect(
    name="elevenlabs",
    prefixes=("/v1/text-to-dialogue",),
    routes=(web.post("/v1/text-to-dialogue", dialogue), web.post("/v1/text-to-dialogue/stream", dialogue)),
    refuse=refuse,
    envelope=ErrorResponse,
)
