"""ElevenLabs' routes for voices beside `/v1/voices`: `/v1/voices/{voice_id}` and `/v2/voices`."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus.errors import Invalid
from bus.params import short
from bus.voices import nearest
from gateway.api.answers import CLONED, ShownVoice
from gateway.api.models import shown_voices
from gateway.api.voice_uploads import shown_uploaded
from gateway.dialects.elevenlabs.cloning import add, delete
from gateway.dialects.elevenlabs.errors import ErrorResponse, refuser
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.query import integer
from gateway.http.responses import json_response
from gateway.http.services import FLEET

_MAX_PAGE: Final = 100
_DEFAULT_PAGE: Final = 10
#: ElevenLabs' type by category; `default` for others.
_VOICE_TYPES: Final = {CLONED: "personal"}


class VoicePage(msgspec.Struct, frozen=True):
    """A page of voices."""

    voices: list[ShownVoice]
    has_more: bool
    total_count: int
    #: Where the next page begins; null on the last.
    next_page_token: str | None


@operation(
    "Show one voice.",
    parameters=(Parameter("voice_id", str, "An id that `/v1/voices` lists.", where="path"),),
    answers={200: Answer("The voice; if several models have one of this id, the first.", ShownVoice)},
)
async def show(request: web.Request) -> web.Response:
    """`GET /v1/voices/{voice_id}`. Raises Invalid for an unknown voice."""
    voice_id = request.match_info["voice_id"]
    shown = {voice.voice_id: voice for voice in reversed(_all(request))}
    found = nearest(voice_id, shown)
    if found in shown:
        return json_response(shown[found])
    raise Invalid(f"A voice with the voice_id {short(voice_id)} was not found.", "voice")


@operation(
    "List voices, a page at a time.",
    parameters=(
        Parameter("page_size", Annotated[int, Meta(ge=1, le=_MAX_PAGE)], f"Default {_DEFAULT_PAGE}."),
        Parameter("next_page_token", Annotated[str, Meta(pattern="^[0-9]{1,9}$")], "From the previous page."),
        Parameter("search", str, "Text to find in names, ids and labels."),
        Parameter("sort", str, "`name`; without it voices are in the order of their models."),
        Parameter("sort_direction", str, "`asc` or `desc`."),
        Parameter("category", str, "`premade`, or `cloned` for uploaded voices."),
        Parameter("voice_type", str, "`default`; `personal` for uploaded voices; `non-community` for both."),
        Parameter("gender", str, "The label of this name."),
        Parameter("language", list[str], "Only voices of one of these languages."),
        Parameter("voice_ids", list[str], "Only these voices."),
    ),
    answers={200: Answer("A page of voices.", VoicePage)},
    is_list=True,
)
async def search(request: web.Request) -> web.Response:
    """`GET /v2/voices`: filtered, sorted, a page at a time."""
    page = integer(request, "page_size", 1, _MAX_PAGE) or _DEFAULT_PAGE
    start = integer(request, "next_page_token", 0, 1 << 31) or 0
    found = [voice for voice in _all(request) if _matches(voice, request)]
    if request.query.get("sort") == "name":
        found.sort(key=lambda voice: voice.name, reverse=request.query.get("sort_direction") == "desc")
    more = len(found) > start + page
    return json_response(VoicePage(found[start : start + page], more, len(found), str(start + page) if more else None))


def _all(request: web.Request) -> list[ShownVoice]:
    """The caller's uploaded voices, then those of every model, by the models' names."""
    cards = [card for _, card in sorted(request.app[FLEET].cards().items())]
    return [*shown_uploaded(request, cards, is_all=True), *shown_voices(cards)]


def _matches(voice: ShownVoice, request: web.Request) -> bool:
    """Whether a voice passes every filter of the query."""
    query = request.query
    labels = voice.labels
    searched = " ".join([voice.name, voice.voice_id, voice.category, *labels.values()]).casefold()
    return (
        query.get("search", "").casefold() in searched
        and query.get("category", voice.category) == voice.category
        and query.get("voice_type", "non-community") in {"non-community", _VOICE_TYPES.get(voice.category, "default")}
        and query.get("gender", labels.get("gender")) == labels.get("gender")
        and _is_among(voice.voice_id, query.getall("voice_ids", []))
        and _speaks_one(voice.language, query.getall("language", []))
    )


def _is_among(value: str, values: Sequence[str]) -> bool:
    """Whether `value` is one of `values`; true if there are none."""
    return not values or value in values


def _speaks_one(language: str, codes: Sequence[str]) -> bool:
    """Whether `language` is one of `codes` or a variant of one; true if there are none."""
    return not codes or any(language == code or language.startswith(f"{code}-") for code in codes)


#: `add` is no voice: its path takes POST alone.
_VOICE: Final = "/v1/voices/{voice_id:(?!add$)[^/{}]+}"

DIALECT: Final = Dialect(
    name="elevenlabs",
    prefixes=("/v1/voices/", "/v2/voices"),
    routes=(
        web.get(_VOICE, show),
        web.get("/v2/voices", search),
        web.post("/v1/voices/add", add),
        web.delete(_VOICE, delete),
    ),
    refuse=refuser({}),
    envelope=ErrorResponse,
)
