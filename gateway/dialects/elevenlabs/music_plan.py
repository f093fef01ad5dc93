"""ElevenLabs' plans: one made from a prompt, and music together with the plan that it follows."""

from contextlib import aclosing, closing
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import Invalid
from bus.jobs.validate import check_input
from gateway.access.caller import caller
from gateway.api.job_fields import KEY, Text
from gateway.codecs import Encoding, Format
from gateway.dialects.elevenlabs import names
from gateway.dialects.elevenlabs.errors import ErrorResponse, refuser
from gateway.dialects.elevenlabs.music import (
    FIELDS,
    MAX_MS,
    MAX_PART_MS,
    MIN_MS,
    MusicRequest,
    Plan,
    PlanSection,
    read_music,
)
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, operation
from gateway.http.responses import begin, json_response
from gateway.jobs.listening import AudioStream
from gateway.streaming.live import stream_for, stream_headers

#: Of a plan for a prompt that states no length.
_DEFAULT_MS: Final = 30_000
_MAX_NAME_CHARS: Final = 60
#: Between the parts of a response; it cannot be in JSON, and clients look for its first two places only.
_BOUNDARY: Final = "antiphon-part"
_MULTIPART: Final = f"multipart/mixed; boundary={_BOUNDARY}"


class PlanRequest(msgspec.Struct, frozen=True):
    """A prompt to make a plan of. Unknown fields are ignored."""

    prompt: Text
    music_length_ms: Annotated[int, Meta(ge=MIN_MS, le=MAX_MS)] | None = None
    source_composition_plan: Plan | None = None
    model_id: str | None = None


class SectionedPlan(msgspec.Struct, frozen=True):
    """A plan as `composition_plan` of a request takes it."""

    positive_global_styles: list[str]
    negative_global_styles: list[str]
    sections: list[PlanSection]


class SongMetadata(msgspec.Struct, frozen=True):
    """A piece as far as it is known: by its prompt."""

    title: str
    description: str
    genres: list[str] = []
    languages: list[str] = []
    is_explicit: bool = False


_PLAN: Final = Body(PlanRequest)


@operation(
    "Make a composition plan from a prompt.",
    text="Nothing is generated: the styles are the phrases of the prompt, and the sections have equal lengths.",
    body=PlanRequest,
    answers={200: Answer("The plan.", SectionedPlan)},
    is_counted=False,
)
async def plan(request: web.Request) -> web.Response:
    """`POST /v1/music/plan`. Raises Invalid for a prompt of which no music could be made."""
    body = _PLAN.read(await request.read())
    try:
        check_input(body.prompt)
    except Invalid as error:
        raise Invalid(str(error).replace("input", "prompt", 1), "prompt") from error
    return json_response(_plan_of(body.prompt, body.music_length_ms))


def _plan_of(prompt: str, length_ms: int | None) -> SectionedPlan:
    """A plan of `length_ms`, in as few sections as ElevenLabs' longest section permits."""
    length_ms = length_ms or _DEFAULT_MS
    styles = list(dict.fromkeys(phrase.strip() for phrase in prompt.split(",") if phrase.strip()))
    count = -(-length_ms // MAX_PART_MS)
    ends = [length_ms * number // count for number in range(count + 1)]
    return SectionedPlan(
        positive_global_styles=[style for style in styles if not style.startswith("no ")],
        negative_global_styles=[style.removeprefix("no ") for style in styles if style.startswith("no ")],
        sections=[PlanSection(f"Part {number}", ends[number] - ends[number - 1]) for number in range(1, count + 1)],
    )


@operation(
    "Compose music, and respond with its plan and its audio.",
    text="`multipart/mixed`: JSON, then the audio as it is made.",
    body=MusicRequest,
    parameters=(KEY, names.output_format(names.MUSIC_FORMATS, "auto")),
    answers={200: Answer("Two parts: the plan as JSON, and the audio.", None, ("multipart/mixed",))},
)
async def detailed(request: web.Request) -> web.StreamResponse:
    """`POST /v1/music/detailed`: the plan at once, the audio from its first block on."""
    body, job, form = await read_music(request)
    async with stream_for(request, job) as stream:
        return await _respond_in_parts(request, stream, form, _detail(body, job))


def _detail(body: MusicRequest, job: wire.Job) -> dict[str, Any]:
    given = body.composition_plan
    if given is None:
        seconds = job.params.get("seconds")
        shown: Any = _plan_of(job.input, None if seconds is None else max(MIN_MS, round(seconds * 1000)))
    else:
        shown = SectionedPlan(given.positive_global_styles, given.negative_global_styles, given.sections)
        shown = given if given.chunks else shown
    return {"composition_plan": shown, "song_metadata": SongMetadata(job.input[:_MAX_NAME_CHARS], job.input)}


async def _respond_in_parts(
    request: web.Request, stream: AudioStream, form: Format, detail: dict[str, Any]
) -> web.StreamResponse:
    """Respond with `detail` and the stream's audio. An error after the first block cuts the body short."""
    async with aclosing(aiter(stream)) as pieces:
        pcm = await anext(pieces)
        encoding = Encoding(form, *stream.media, caller=caller(request), tag=form.tag(stream.job))
        with closing(encoding):
            ids = {"request-id": stream.key.job, "song-id": stream.key.job}
            head = stream_headers(stream, form, encoding.media, lambda _: ids)
            audio_type = head["Content-Type"]
            response = web.StreamResponse(headers=head | {"Content-Type": _MULTIPART})
            await begin(request, response)
            await response.write(_opening(detail, audio_type, f"{stream.key.job}.{form.extension}"))
            while not stream.is_whole:
                await response.write(await encoding.feed(pcm))
                pcm = await anext(pieces)
            last = await encoding.feed(pcm) + await encoding.finish()
            await response.write_eof(last + f"\r\n--{_BOUNDARY}--\r\n".encode())
    return response


def _opening(detail: dict[str, Any], audio_type: str, name: str) -> bytes:
    """Everything before the first byte of the audio."""
    return b"\r\n".join(
        [
            f"--{_BOUNDARY}".encode(),
            b"Content-Type: application/json",
            b"",
            msgspec.json.encode(detail),
            f"--{_BOUNDARY}".encode(),
            f"Content-Type: {audio_type}".encode(),
            f'Content-Disposition: attachment; filename="{name}"'.encode(),
            b"",
            b"",
        ]
    )


DIALECT: Final = Dialect(
    name="elevenlabs",
    prefixes=(),
    routes=(web.post("/v1/music/plan", plan), web.post("/v1/music/detailed", detailed)),
    refuse=refuser(FIELDS),
    envelope=ErrorResponse,
)
