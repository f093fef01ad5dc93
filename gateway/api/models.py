"""The models on offer, and their voices."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from bus.fleet.messages import ModelCard, Voice
from gateway.api.answers import ElevenLabsModel, Language, ModelList, ShownVoice, VoiceList
from gateway.api.job_fields import OPENAI_MODELS, own_model
from gateway.api.routing import named_cards, shown_card
from gateway.api.voice_uploads import shown_uploaded
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.responses import json_response
from gateway.http.services import FLEET, ROUTES

#: Unix seconds. OpenAI's clients expect a date for every model; ours is the date of the first version with models.
_CREATED: Final = 1_760_000_000


@operation(
    "The models on offer.",
    text="A request with the header `xi-api-key`, even an empty one, gets ElevenLabs' list instead of OpenAI's. A name "
    "with a route has the card of the version that answers most requests, and its targets under `route`.",
    answers={
        200: Answer("OpenAI's list, with our model cards in it; or ElevenLabs'.", ModelList | list[ElevenLabsModel])
    },
    is_list=True,
)
async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`: OpenAI's list, with our model cards in it, or for ElevenLabs' clients theirs."""
    cards = named_cards(request)
    if "xi-api-key" in request.headers:
        return json_response([_elevenlabs_model(name, card) for name, card in cards.items()])
    return json_response({"object": "list", "data": [shown_model(request, *each) for each in cards.items()]})


def shown_model(request: web.Request, name: str, card: ModelCard) -> dict[str, Any]:
    """A model by the name that requests have: OpenAI's fields first, then those of its card, then the name's route."""
    fields = {field: value for field, value in msgspec.to_builtins(card).items() if field != "name"}
    shown = {"id": name, "object": "model", "created": _CREATED, "owned_by": "antiphon", **fields}
    route = request.app[ROUTES].entries.get(name)
    return shown if route is None else {**shown, "root": card.name, "route": msgspec.to_builtins(route.targets)}


def _elevenlabs_model(name: str, card: ModelCard) -> ElevenLabsModel:
    # Their clients choose a language by its code alone: `en`, not `en-gb-x-rp`.
    codes = sorted({language.partition("-")[0] for language in card.languages})
    names = {voice.language: voice.name for voice in reversed(card.voices)}
    return ElevenLabsModel(
        model_id=name,
        name=name,
        can_do_text_to_speech=card.kind == "speech",
        description=f"{card.kind}, {card.rate_hz} Hz",
        languages=[Language(code, names.get(code, code)) for code in codes],
        maximum_text_length_per_request=card.max_input_chars,
        max_characters_request_free_user=card.max_input_chars,
        max_characters_request_subscribed_user=card.max_input_chars,
    )


@operation(
    "Every voice.",
    parameters=(Parameter("model", str, "Only this model's voices."),),
    answers={200: Answer("Our fields and ElevenLabs'.", VoiceList)},
    is_list=True,
)
async def voices(request: web.Request) -> web.Response:
    """`GET /v1/voices?model=`: the caller's uploaded voices, then those of the models.

    A name of OpenAI's stands for our model.
    """
    model = request.query.get("model")
    cards = [*request.app[FLEET].cards().values()] if model is None else family(request, model)
    own = shown_uploaded(request, cards, is_all=model is None)
    return json_response({"voices": [*own, *shown_voices(cards)]})


def family(request: web.Request, name: str) -> list[ModelCard]:
    """The cards that answer requests for a model, by our name or one of OpenAI's: its own, then its family's.

    Raises UnknownModel, NoWorker.
    """
    fleet = request.app[FLEET]
    card = shown_card(request, name, own_model(fleet, name, OPENAI_MODELS))
    return [card, *(each for each in fleet.members(card.name) if each.name != card.name)]


def shown_voices(cards: Iterable[ModelCard]) -> list[ShownVoice]:
    """Every voice of `cards`, in their order."""
    return [_shown_voice(voice, card) for card in cards for voice in card.voices]


def _shown_voice(voice: Voice, card: ModelCard) -> ShownVoice:
    labels = {"language": voice.language, "gender": voice.gender}
    return ShownVoice(
        **{name: getattr(voice, name) for name in voice.__struct_fields__} | {"ssml": card.reads_ssml(voice.id)},
        model=card.name,
        voice_id=voice.id,
        labels={name: value for name, value in labels.items() if value},
    )
