"""ElevenLabs' account, which programs look at before they speak: user, subscription, voice settings, history.

Nothing is charged here. The one quota that a key may have, seconds of audio per day, stands for ElevenLabs' characters.
"""

import time
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus.errors import Invalid
from bus.params import short
from gateway.access.caller import caller
from gateway.dialects.elevenlabs.errors import ErrorResponse, refuser
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.query import integer
from gateway.http.responses import json_response
from gateway.http.services import FLEET, LIMITER

#: A key without a quota has this many "characters", the largest number that every client can hold.
_NO_LIMIT: Final = (1 << 31) - 1
#: A second of audio is this many of them, more than are spoken in a second: a client that compares the length of its
#: text with the rest is not stopped before the quota is used up.
_PER_SECOND: Final = 1000
_MAX_PAGE: Final = 1000


class Price(msgspec.Struct, frozen=True):
    """An amount of money."""

    amount: str = "0"
    currency: str = "usd"


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """ElevenLabs' subscription. Counts of voices are 0: none can be added."""

    tier: str = "antiphon"
    #: Thousandths of a second of audio, used and allowed today, UTC.
    character_count: int
    character_limit: int
    next_character_count_reset_unix: int | None
    max_character_limit_extension: int = 0
    max_credit_limit_extension: int = 0
    can_extend_character_limit: bool = False
    allowed_to_extend_character_limit: bool = False
    voice_slots_used: int = 0
    professional_voice_slots_used: int = 0
    professional_voice_slots_used_in_workspace: int = 0
    voice_limit: int = 0
    max_voice_add_edits: int = 0
    voice_add_edit_counter: int = 0
    professional_voice_limit: int = 0
    can_extend_voice_limit: bool = False
    can_use_instant_voice_cloning: bool = False
    can_use_professional_voice_cloning: bool = False
    currency: str | None = None
    current_overage: Price = Price()
    status: str = "active"
    billing_period: str | None = None
    character_refresh_period: str | None = None
    next_invoice: dict[str, Any] | None = None
    open_invoices: list[dict[str, Any]] = []
    has_open_invoices: bool = False


class User(msgspec.Struct, frozen=True, kw_only=True):
    """ElevenLabs' user: the key, and its tenant as the workspace."""

    user_id: str
    workspace_id: str
    subscription: Subscription
    is_new_user: bool = False
    can_use_delayed_payment_methods: bool = False
    is_onboarding_completed: bool = True
    is_onboarding_checklist_completed: bool = True
    first_name: str
    xi_api_key: str | None = None
    is_api_key_hashed: bool = True
    created_at: int = 0
    seat_type: str = "workspace_member"


class Settings(msgspec.Struct, frozen=True):
    """The settings of a voice: what a request without any gets. Engines here support `speed` at most."""

    stability: float = 0.5
    similarity_boost: float = 0.75
    style: float = 0.0
    use_speaker_boost: bool = True
    speed: float = 1.0


class History(msgspec.Struct, frozen=True):
    """A page of the history, which is empty: `/v1/jobs` lists jobs."""

    history: list[dict[str, Any]] = []
    last_history_item_id: str | None = None
    has_more: bool = False


@operation("Show the key's quota.", answers={200: Answer("The quota, in ElevenLabs' form.", Subscription)})
async def subscription(request: web.Request) -> web.Response:
    """`GET /v1/user/subscription`."""
    return json_response(await _subscription(request))


@operation("Show the key's tenant and quota.", answers={200: Answer("The user, in ElevenLabs' form.", User)})
async def user(request: web.Request) -> web.Response:
    """`GET /v1/user`."""
    known = caller(request)
    shown = User(
        user_id=known.key or known.tenant,
        workspace_id=known.tenant,
        subscription=await _subscription(request),
        first_name=known.tenant,
    )
    return json_response(shown)


async def _subscription(request: web.Request) -> Subscription:
    """The quota of the caller's key. Raises Unreachable."""
    today = await request.app[LIMITER].jobs.audio_today(caller(request))
    if today is None:
        return Subscription(character_count=0, character_limit=_NO_LIMIT, next_character_count_reset_unix=None)
    limit = min(_NO_LIMIT, int(today.allowed_s * _PER_SECOND))
    return Subscription(
        # Scaled with the limit; what was used beyond it does not count.
        character_count=min(limit, round(limit * today.used_s / today.allowed_s)),
        character_limit=limit,
        next_character_count_reset_unix=round(time.time() + today.resets_in_s),
    )


@operation("Show the settings that voices have by default.", answers={200: Answer("The settings.", Settings)})
async def default_settings(request: web.Request) -> web.Response:
    """`GET /v1/voices/settings/default`."""
    return json_response(Settings())


@operation(
    "Show the settings of a voice.",
    parameters=(Parameter("voice_id", str, "An id that `/v1/voices` lists.", where="path"),),
    answers={200: Answer("The settings.", Settings)},
)
async def settings(request: web.Request) -> web.Response:
    """`GET /v1/voices/{voice_id}/settings`. Raises Invalid for an unknown voice."""
    voice_id = request.match_info["voice_id"]
    cards = request.app[FLEET].cards().values()
    if all(voice.id != voice_id for card in cards for voice in card.voices):
        raise Invalid(f"A voice with the voice_id {short(voice_id)} was not found.", "voice")
    return json_response(Settings())


@operation(
    "List what was generated: nothing, `/v1/jobs` lists jobs.",
    parameters=(Parameter("page_size", Annotated[int, Meta(ge=1, le=_MAX_PAGE)], "Items of a page."),),
    answers={200: Answer("An empty page.", History)},
)
async def history(request: web.Request) -> web.Response:
    """`GET /v1/history`."""
    integer(request, "page_size", 1, _MAX_PAGE)
    return json_response(History())


DIALECT: Final = Dialect(
    name="elevenlabs",
    prefixes=("/v1/user", "/v1/history"),
    routes=(
        web.get("/v1/user", user),
        web.get("/v1/user/subscription", subscription),
        web.get("/v1/voices/settings/default", default_settings),
        web.get("/v1/voices/{voice_id}/settings", settings),
        web.get("/v1/history", history),
    ),
    refuse=refuser({}),
    envelope=ErrorResponse,
)
