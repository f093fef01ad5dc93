"""ElevenLabs' text to dialogue over HTTP: turns of several voices in, one sound out.

Each turn is a job. They are played one after the other into one encoder, and the next one is made meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import BusError, Invalid
from bus.jobs.submit import check_id, keyed_id
from bus.options import schema
from gateway.access.caller import caller
from gateway.api.job_fields import KEY, JobOptions, Text, build_job, idempotent_id
from gateway.codecs import Encoding, Format
from gateway.dialects.elevenlabs import names
from gateway.dialects.elevenlabs.errors import ErrorResponse, TextTooLong, refuser
from gateway.dialects.elevenlabs.names import MAX_SEED
from gateway.http.bodies import Body
from gateway.http.counting import wait_to_count
from gateway.http.dialect import Dialect
from gateway.http.headers import JOB_HEADER, VOICE_HEADER, voice_headers
from gateway.http.operation import AUDIO, Answer, operation
from gateway.http.responses import begin
from gateway.http.services import FLEET, JOBS
from gateway.jobs.listening import AudioStream
from gateway.sockets.playback import Playback
from gateway.sockets.queue import Segment
from gateway.streaming.live import stream_headers

_API: Final = "elevenlabs-dialogue"
#: Turns of one request: the header with the ids of their jobs stays within what clients read.
MAX_INPUTS: Final = 100


class Input(msgspec.Struct, frozen=True):
    """A turn: a text and the voice that speaks it."""

    text: Text
    voice_id: str


class DialogueRequest(JobOptions, frozen=True, kw_only=True):
    """ElevenLabs' fields, then ours. Fields that no engine supports are ignored."""

    inputs: Annotated[list[Input], Meta(min_length=1, max_length=MAX_INPUTS)]
    model_id: Annotated[str, schema("One of our models, or of ElevenLabs'.")] | None = None
    language_code: str | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] | None = None  # type: ignore[assignment]  # theirs may be null
    apply_text_normalization: Literal["auto", "on", "off"] | None = None


_DIALOGUE: Final = Body(DialogueRequest)


@dataclass(slots=True)
class Turn(Segment):
    """A turn, and its validated job."""

    job: wire.Job


class Dialogue:
    """Plays the turns into one response; the handler of its playback."""

    def __init__(self, request: web.Request, form: Format, turns: list[Turn]) -> None:
        self._request = request
        self._form = form
        self._turns = turns
        self._encoding: Encoding | None = None
        self._response: web.StreamResponse | None = None
        self._error: BusError | ConnectionError | None = None
        self._num_played = 0

    async def respond(self) -> web.StreamResponse:
        """Respond with the sound of all turns. A client that hangs up leaves the jobs.

        Raises the error of the first turn that was refused or failed; the body then ends before it.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._playback: Playback[Turn] = Playback(self._request.app[JOBS], tasks, self)
                for turn in self._turns:
                    self._playback.enqueue(turn)
                await self._playback.until_idle()
            if self._error is not None:
                raise self._error
            assert self._encoding is not None
            assert self._response is not None
            await self._response.write_eof(await self._encoding.finish())
            return self._response
        finally:
            if self._encoding is not None:
                self._encoding.close()

    # The handler of the playback.

    def build_job(self, segment: Turn) -> wire.Job:
        """The turn's job, which was validated with the request."""
        return segment.job

    async def play(self, segment: Turn, stream: AudioStream, pieces: AsyncIterator[bytes]) -> None:
        """Write the turn's sound. Raises BusError."""
        if self._num_played:  # the first one was counted with the request
            await wait_to_count(self._request)
        self._num_played += 1
        try:
            async for pcm in pieces:
                await self._write(stream, pcm)
        except ConnectionError as error:  # the client is gone
            self._playback.queue.clear()
            self._error = error

    async def _write(self, stream: AudioStream, pcm: bytes) -> None:
        if self._encoding is None or self._response is None:
            self._encoding = Encoding(self._form, *stream.media, caller=caller(self._request))
            jobs = [turn.job for turn in self._turns]
            own = {JOB_HEADER: ", ".join(job.id for job in jobs)}
            if all(job.voice for job in jobs):
                own[VOICE_HEADER] = ", ".join(voice_headers(job)[VOICE_HEADER] for job in jobs)
            head = stream_headers(stream, self._form, self._encoding.media, lambda _: own)
            self._response = web.StreamResponse(headers=head | {"request-id": self._turns[0].job.id})
            await begin(self._request, self._response)
        data = await self._encoding.feed(pcm)
        if data:
            await self._response.write(data)

    async def report_failure(self, segment: Turn, error: BusError) -> None:
        """Play no later turn."""
        self._playback.queue.clear()
        self._error = error


@operation(
    "Convert a dialogue to speech: turns of several voices, one sound, streamed as it is made.",
    text="Each turn is a job, and counts as a request; those beyond a limit of requests per second wait for it.",
    body=DialogueRequest,
    parameters=(KEY, names.output_format(names.SPEECH_FORMATS, names.DEFAULT_FORMAT)),
    answers={200: Answer("The audio.", None, AUDIO)},
)
async def dialogue(request: web.Request) -> web.StreamResponse:
    """`POST /v1/text-to-dialogue` and `…/stream`: the audio from its first block on."""
    data = await request.read()
    form = names.format_of(request.query.get("output_format", names.DEFAULT_FORMAT), names.SPEECH_FORMATS)
    body = _DIALOGUE.read(data)
    turns = [_turn(request, body, index, len(data)) for index in range(len(body.inputs))]
    if idempotent_id(request, _API):  # a key that was used for another dialogue may agree in the first turns
        await asyncio.gather(*(check_id(request.app[JOBS].bus, turn.job) for turn in turns))
    return await Dialogue(request, form, turns).respond()


def _turn(request: web.Request, body: DialogueRequest, index: int, size_hint_bytes: int) -> Turn:
    """The turn's validated job. Raises as `Validation.complete` does, with the turn's place in `path`."""
    jobs = request.app[JOBS]
    turn = body.inputs[index]
    model = names.speech_model(request.app[FLEET], body.model_id or "")
    card = jobs.card(model, body.version)
    if len(turn.text) > card.max_input_chars:
        raise TextTooLong(f"inputs.{index}.text", len(turn.text), card.max_input_chars, model)
    key = idempotent_id(request, _API)
    try:
        job = build_job(
            request,
            _API,
            msgspec.structs.replace(body, seed=body.seed or 0),
            input=turn.text,
            model=model,
            voice=names.speech_voice(turn.voice_id, body.language_code or "", card),
            params=names.with_breaks(body.params, turn.text, card),
            job_id=keyed_id(_API, f"{key}-{index}") if key else "",
        )
        return Turn(turn.text, jobs.validate(job, streams=True, size_hint_bytes=size_hint_bytes))
    except Invalid as error:
        if error.path != "input":
            raise
        place = f"inputs.{index}.text"
        raise Invalid(str(error).replace("input", place, 1), place) from error


DIALECT: Final = Dialect(
    name="elevenlabs",
    prefixes=("/v1/text-to-dialogue",),
    routes=(web.post("/v1/text-to-dialogue", dialogue), web.post("/v1/text-to-dialogue/stream", dialogue)),
    refuse=refuser({"model": "model_id"}),
    envelope=ErrorResponse,
)
