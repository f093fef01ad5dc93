"""ElevenLabs' music: a prompt or a composition plan in, streamed audio out."""

from collections.abc import Iterable
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import Invalid
from gateway.api.job_fields import KEY, JobOptions, Text, build_job
from gateway.codecs import Format
from gateway.dialects.elevenlabs import names
from gateway.dialects.elevenlabs.errors import ErrorResponse, TextTooLong, refuser
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import AUDIO, Answer, operation
from gateway.http.services import JOBS
from gateway.streaming.live import respond

_API: Final = "elevenlabs-music"
_MAX_SEED: Final = 2**31 - 1
#: Lengths in milliseconds: of the whole piece, and of one part of a plan.
MIN_MS: Final = 3_000
MAX_MS: Final = 600_000
MAX_PART_MS: Final = 120_000
#: The format that `auto` stands for, by model; newer models have another one.
_AUTO: Final = {"music_v1": "mp3_44100_128"}
_AUTO_NEWER: Final = "mp3_48000_192"
FIELDS: Final = {
    "input": "prompt",
    "model": "model_id",
    "params.seconds": "music_length_ms",
}

_PartMs = Annotated[int, Meta(ge=MIN_MS, le=MAX_PART_MS)]


class PlanSection(msgspec.Struct, frozen=True):
    """A part of a plan for `music_v1`."""

    section_name: Annotated[str, Meta(min_length=1, max_length=100)]
    duration_ms: _PartMs
    positive_local_styles: list[str] = []
    negative_local_styles: list[str] = []
    lines: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=30)] = []


class PlanChunk(msgspec.Struct, frozen=True):
    """A part of a plan for newer models."""

    duration_ms: _PartMs
    text: str = ""
    positive_styles: list[str] = []
    negative_styles: list[str] | None = None


class Plan(msgspec.Struct, frozen=True):
    """A composition plan of either generation of models: `sections` or `chunks`."""

    positive_global_styles: list[str] = []
    negative_global_styles: list[str] = []
    sections: list[PlanSection] = []
    chunks: list[PlanChunk] = []


class MusicRequest(JobOptions, frozen=True, kw_only=True):
    """ElevenLabs' fields, then ours. Fields that no engine supports are checked for their type and ignored."""

    prompt: Text | None = None
    composition_plan: Plan | None = None
    music_length_ms: Annotated[int, Meta(ge=MIN_MS, le=MAX_MS)] | None = None
    model_id: str | None = None
    seed: Annotated[int, Meta(ge=0, le=_MAX_SEED)] | None = None  # type: ignore[assignment]  # theirs may be null
    force_instrumental: bool | None = None
    finetune_id: str | None = None
    respect_sections_durations: bool | None = None
    store_for_inpainting: bool | None = None
    sign_with_c2pa: bool | None = None


MUSIC: Final = Body(MusicRequest)


class Piece(NamedTuple):
    """The piece of music that a request describes."""

    prompt: str
    #: None if the request does not state it.
    length_ms: int | None
    lyrics: str


@operation(
    "Compose music, streamed as it is made.",
    text="Exactly one of `prompt` and `composition_plan` is required. The styles of a plan become one prompt.",
    body=MusicRequest,
    parameters=(KEY, names.output_format(names.MUSIC_FORMATS, "auto")),
    answers={200: Answer("The audio.", None, AUDIO)},
)
async def music(request: web.Request) -> web.StreamResponse:
    """`POST /v1/music` and `/v1/music/stream`: the audio from its first block on."""
    _, job, form = await read_music(request)
    return await respond(request, job, form, lambda job_id: {"request-id": job_id, "song-id": job_id})


async def read_music(request: web.Request) -> tuple[MusicRequest, wire.Job, Format]:
    """The body of a request, its validated job, and the format of its audio. Raises as `Validation.complete` does."""
    data = await request.read()
    body = MUSIC.read(data)
    form = _format(request.query.get("output_format", "auto"), body.model_id or "music_v1")
    job = _build_job(request, body)
    return body, request.app[JOBS].validate(job, streams=True, size_hint_bytes=len(data)), form


def _format(name: str, model_id: str) -> Format:
    if name == "auto":
        name = _AUTO.get(model_id, _AUTO_NEWER)
    return names.format_of(name, names.MUSIC_FORMATS)


def _build_job(request: web.Request, body: MusicRequest) -> wire.Job:
    """The job, before validation. Raises Invalid, TextTooLong, UnknownModel, NoWorker."""
    model = names.music_model(request, body.model_id or "", body.version)
    card = request.app[JOBS].card(model.model, model.version)
    piece = _piece(body)
    if len(piece.prompt) > card.max_input_chars:
        raise TextTooLong("prompt", len(piece.prompt), card.max_input_chars, card.name)
    params: dict[str, Any] = {}
    if piece.length_ms is not None and names.has_param(card, "seconds"):
        params["seconds"] = piece.length_ms / 1000
    if piece.lyrics and names.has_param(card, "lyrics"):
        params["lyrics"] = piece.lyrics
    return build_job(
        request,
        _API,
        msgspec.structs.replace(body, seed=body.seed or 0),
        model,
        input=piece.prompt,
        params={**params, **body.params},
    )


def _piece(body: MusicRequest) -> Piece:
    """The piece that the prompt or the plan describes. Raises Invalid."""
    plan = body.composition_plan
    if (body.prompt is None) == (plan is None):
        given = "both are given" if plan is not None else "neither is given"
        raise Invalid(f"prompt: exactly one of prompt and composition_plan is needed, {given}", "prompt")
    if plan is None:
        assert body.prompt is not None
        return Piece(body.prompt, body.music_length_ms, "")
    if body.music_length_ms is not None:
        raise Invalid(
            "music_length_ms: goes with a prompt; the parts of a composition_plan have lengths of their own",
            "music_length_ms",
        )
    return _piece_of_plan(plan)


def _piece_of_plan(plan: Plan) -> Piece:
    """The piece of a plan. Our engines take one prompt for a piece, so the styles of all parts are joined."""
    parts = [(part.duration_ms, part.positive_local_styles, part.negative_local_styles) for part in plan.sections]
    parts += [(part.duration_ms, part.positive_styles, part.negative_styles or []) for part in plan.chunks]
    if not parts:
        raise Invalid("composition_plan: has neither sections nor chunks", "composition_plan")
    length_ms = sum(duration_ms for duration_ms, _, _ in parts)
    if length_ms > MAX_MS:
        raise Invalid(
            f"composition_plan: its parts are {length_ms} ms long, at most {MAX_MS} are allowed", "composition_plan"
        )
    positive = _distinct([plan.positive_global_styles, *(styles for _, styles, _ in parts)])
    negative = _distinct([plan.negative_global_styles, *(styles for _, _, styles in parts)])
    lyrics = [f"[{part.section_name}]\n" + "\n".join(part.lines) for part in plan.sections if part.lines]
    lyrics += [part.text for part in plan.chunks if part.text.strip()]
    prompt = ", ".join([*positive, *(f"no {style}" for style in negative)])
    return Piece(prompt, length_ms, "\n\n".join(lyrics))


def _distinct(lists: Iterable[list[str]]) -> list[str]:
    """Every style of the lists once, in order."""
    return list(dict.fromkeys(style.strip() for styles in lists for style in styles if style.strip()))


DIALECT: Final = Dialect(
    name="elevenlabs",
    prefixes=("/v1/music",),
    routes=(web.post("/v1/music", music), web.post("/v1/music/stream", music)),
    refuse=refuser(FIELDS),
    envelope=ErrorResponse,
)
