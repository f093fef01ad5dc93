"""ElevenLabs' music: a prompt or a composition plan, as one stream of sound."""

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import Invalid
from gateway.api.job_fields import KEY, JobOptions, Text, build_job
from gateway.codecs import Format
from gateway.dialects.elevenlabs import names
from gateway.dialects.elevenlabs.errors import Refusal, TextTooLong, refusal
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import SOUND, Answer, operation
from gateway.http.services import FLEET, JOBS
from gateway.streaming.live import respond

_API: Final = "elevenlabs-music"
_MAX_SEED: Final = 2**31 - 1
_MAX_PART_MS, _MIN_MS, _MAX_MS = 120_000, 3_000, 600_000
#: What `auto` stands for, by the generation of their models.
_AUTO: Final = {"music_v1": "mp3_44100_128"}
_AUTO_NEWER: Final = "mp3_48000_192"
_FIELDS: Final = {
    "input": "prompt",
    "model": "model_id",
    "params.seconds": "music_length_ms",
}

_PartMs = Annotated[int, Meta(ge=_MIN_MS, le=_MAX_PART_MS)]


class Section(msgspec.Struct, frozen=True):
    section_name: Annotated[str, Meta(min_length=1, max_length=100)]
    duration_ms: _PartMs
    positive_local_styles: list[str] = []
    negative_local_styles: list[str] = []
    lines: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=30)] = []


class Chunk(msgspec.Struct, frozen=True):
    duration_ms: _PartMs
    text: str = ""
    positive_styles: list[str] = []
    negative_styles: list[str] | None = None


class Plan(msgspec.Struct, frozen=True):
    """Both of theirs: `sections` of `music_v1`, `chunks` of what came later."""

    positive_global_styles: list[str] = []
    negative_global_styles: list[str] = []
    sections: list[Section] = []
    chunks: list[Chunk] = []


class Music(JobOptions, frozen=True, kw_only=True):
    """ElevenLabs' fields, then ours. What our engines cannot honour is checked for its type and ignored."""

    prompt: Text | None = None
    composition_plan: Plan | None = None
    music_length_ms: Annotated[int, Meta(ge=_MIN_MS, le=_MAX_MS)] | None = None
    model_id: str | None = None
    seed: Annotated[int, Meta(ge=0, le=_MAX_SEED)] | None = None  # type: ignore[assignment]  # theirs may be null
    force_instrumental: bool | None = None
    finetune_id: str | None = None
    respect_sections_durations: bool | None = None
    store_for_inpainting: bool | None = None
    sign_with_c2pa: bool | None = None


_body: Final = Body(Music)


@operation(
    "Music, as it comes.",
    text="Exactly one of `prompt` and `composition_plan`. A plan's styles become one prompt.",
    body=Music,
    parameters=(KEY, names.output_format(names.MUSIC_FORMATS, "auto")),
    answers={200: Answer("The sound.", None, SOUND)},
)
async def music(request: web.Request) -> web.StreamResponse:
    """`POST /v1/music` and `/v1/music/stream`: the sound from its first block on."""
    data = await request.read()
    asked = _body.read(data)
    form = _form(request.query.get("output_format", "auto"), asked.model_id or "music_v1")
    job = _job(request, asked)
    job = request.app[JOBS].validate(job, streams=True, size_hint_bytes=len(data))
    return await respond(request, job, form, lambda job_id: {"request-id": job_id, "song-id": job_id})


def _form(name: str, model_id: str) -> Format:
    if name == "auto":
        name = _AUTO.get(model_id, _AUTO_NEWER)
    return names.format_of(name, names.MUSIC_FORMATS)


def _job(request: web.Request, asked: Music) -> wire.Job:
    model = names.music_model(request.app[FLEET], asked.model_id or "")
    card = request.app[JOBS].card(model, asked.version)
    prompt, length_ms, lyrics = _wanted(asked)
    if len(prompt) > card.max_input_chars:
        raise TextTooLong(
            f"This request's prompt has {len(prompt)} characters and exceeds the character limit of "
            f"{card.max_input_chars} characters of the model {model!r}."
        )
    params: dict[str, Any] = {}
    if length_ms is not None and names.knows(card, "seconds"):
        params["seconds"] = length_ms / 1000
    if lyrics and names.knows(card, "lyrics"):
        params["lyrics"] = lyrics
    return build_job(
        request,
        _API,
        msgspec.structs.replace(asked, seed=asked.seed or 0),
        input=prompt,
        model=model,
        params={**params, **asked.params},
    )


def _wanted(asked: Music) -> tuple[str, int | None, str]:
    """Prompt, length in milliseconds if it is said, lyrics. Raises Invalid."""
    plan = asked.composition_plan
    if (asked.prompt is None) == (plan is None):
        said = "both are given" if plan is not None else "neither is given"
        raise Invalid(f"prompt: exactly one of prompt and composition_plan is needed, {said}", "prompt")
    if plan is None:
        assert asked.prompt is not None
        return asked.prompt, asked.music_length_ms, ""
    if asked.music_length_ms is not None:
        raise Invalid(
            "music_length_ms: goes with a prompt; the parts of a composition_plan have lengths of their own",
            "music_length_ms",
        )
    return _planned(plan)


def _planned(plan: Plan) -> tuple[str, int, str]:
    """A plan in the words of a prompt. Our composers have one prompt for a piece: the parts' styles run together."""
    parts = [(part.duration_ms, part.positive_local_styles, part.negative_local_styles) for part in plan.sections]
    parts += [(part.duration_ms, part.positive_styles, part.negative_styles or []) for part in plan.chunks]
    if not parts:
        raise Invalid("composition_plan: has neither sections nor chunks", "composition_plan")
    length_ms = sum(duration_ms for duration_ms, _, _ in parts)
    if length_ms > _MAX_MS:
        raise Invalid(
            f"composition_plan: its parts are {length_ms} ms long, at most {_MAX_MS} are allowed", "composition_plan"
        )
    wanted = _once([plan.positive_global_styles, *(some for _, some, _ in parts)])
    unwanted = _once([plan.negative_global_styles, *(some for _, _, some in parts)])
    lyrics = [f"[{part.section_name}]\n" + "\n".join(part.lines) for part in plan.sections if part.lines]
    lyrics += [part.text for part in plan.chunks if part.text.strip()]
    return ", ".join([*wanted, *(f"no {style}" for style in unwanted)]), length_ms, "\n\n".join(lyrics)


def _once(styles: Iterable[list[str]]) -> list[str]:
    """All of them in order, none twice."""
    return list(dict.fromkeys(style.strip() for some in styles for style in some if style.strip()))


DIALECT: Final = Dialect(
    prefixes=("/v1/music",),
    routes=(web.post("/v1/music", music), web.post("/v1/music/stream", music)),
    refuse=refusal(_FIELDS),
    name="elevenlabs",
    envelope=Refusal,
)
