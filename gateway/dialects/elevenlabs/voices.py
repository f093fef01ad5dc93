"""ElevenLabs' shape of a voice, and its ways to list them: `/v1/voices`, `/v1/voices/{id}`, `/v2/voices`."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus.errors import Invalid
from bus.params import short
from gateway.api.answers import ShownVoice
from gateway.api.models import shown_voices
from gateway.dialects.elevenlabs.errors import Refusal, refusal
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.query import integer
from gateway.http.responses import json_response
from gateway.http.services import FLEET

_MAX_PAGE, _DEFAULT_PAGE = 100, 10
_VOICE_TYPES: Final = frozenset({"default", "non-community"})


class Page(msgspec.Struct, frozen=True):
    voices: list[ShownVoice]
    has_more: bool
    total_count: int
    next_page_token: str | None


@operation(
    "One voice.",
    parameters=(Parameter("voice_id", str, "As `/v1/voices` lists it.", where="path"),),
    answers={200: Answer("The first of this name.", ShownVoice)},
)
async def show(request: web.Request) -> web.Response:
    """`GET /v1/voices/{voice_id}`."""
    wanted = request.match_info["voice_id"]
    for voice in _all(request):
        if voice.voice_id == wanted:
            return json_response(voice)
    raise Invalid(f"A voice with the voice_id {short(wanted)} was not found.", "voice")


@operation(
    "Voices, a page at a time.",
    parameters=(
        Parameter("page_size", Annotated[int, Meta(ge=1, le=_MAX_PAGE)], f"Default {_DEFAULT_PAGE}."),
        Parameter("next_page_token", Annotated[str, Meta(pattern="^[0-9]{1,9}$")], "From the page before."),
        Parameter("search", str, "In names, ids and labels."),
        Parameter("sort", str, "`name`, or as the models list them."),
        Parameter("sort_direction", str, "`asc` or `desc`."),
        Parameter("category", str, "All of ours are `premade`."),
        Parameter("voice_type", str, "All of ours are `default`."),
        Parameter("gender", str, "As in the labels."),
        Parameter("language", list[str], "Those that speak any of them."),
        Parameter("voice_ids", list[str], "These alone."),
    ),
    answers={200: Answer("Some of them.", Page)},
)
async def search(request: web.Request) -> web.Response:
    """`GET /v2/voices`: filtered, sorted, a page at a time."""
    page = integer(request, "page_size", 1, _MAX_PAGE) or _DEFAULT_PAGE
    start = integer(request, "next_page_token", 0, 1 << 31) or 0
    found = [voice for voice in _all(request) if _is_wanted(voice, request)]
    if request.query.get("sort") == "name":
        found.sort(key=lambda voice: voice.name, reverse=request.query.get("sort_direction") == "desc")
    more = len(found) > start + page
    return json_response(Page(found[start : start + page], more, len(found), str(start + page) if more else None))


def _all(request: web.Request) -> list[ShownVoice]:
    cards = request.app[FLEET].cards()
    return shown_voices(cards[name] for name in sorted(cards))


def _is_wanted(voice: ShownVoice, request: web.Request) -> bool:
    query, labels = request.query, voice.labels
    words = " ".join([voice.name, voice.voice_id, voice.category, *labels.values()]).casefold()
    return (
        query.get("search", "").casefold() in words
        and query.get("category", voice.category) == voice.category
        and query.get("voice_type", "default") in _VOICE_TYPES
        and query.get("gender", labels.get("gender")) == labels.get("gender")
        and _is_among(voice.voice_id, query.getall("voice_ids", []))
        and _speaks_one(voice.language, query.getall("language", []))
    )


def _is_among(value: str, wanted: Sequence[str]) -> bool:
    return not wanted or value in wanted


def _speaks_one(language: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(language == each or language.startswith(f"{each}-") for each in wanted)


DIALECT: Final = Dialect(
    prefixes=("/v1/voices/", "/v2/voices"),
    routes=(web.get("/v1/voices/{voice_id}", show), web.get("/v2/voices", search)),
    refuse=refusal({}),
    name="elevenlabs",
    envelope=Refusal,
)
