"""The models on offer, and their voices."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from bus.fleet.messages import ModelCard, Voice
from gateway.api.answers import ModelList, ShownVoice, VoiceList
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.responses import json_response
from gateway.http.services import FLEET, JOBS

#: Unix seconds. OpenAI's clients expect a date for every model; ours is the date of the first version with models.
_CREATED: Final = 1_760_000_000


@operation("The models on offer.", answers={200: Answer("OpenAI's list, with our model cards in it.", ModelList)})
async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`: OpenAI's list, with our model cards in it."""
    cards = sorted(request.app[FLEET].cards().values(), key=lambda card: card.name)
    return json_response({"object": "list", "data": [shown_model(card) for card in cards]})


def shown_model(card: ModelCard) -> dict[str, Any]:
    """A model with OpenAI's fields first, then those of its card."""
    fields = {name: value for name, value in msgspec.to_builtins(card).items() if name != "name"}
    return {"id": card.name, "object": "model", "created": _CREATED, "owned_by": "antiphon", **fields}


@operation(
    "Every voice.",
    parameters=(Parameter("model", str, "Only this model's voices."),),
    answers={200: Answer("Our fields and ElevenLabs'.", VoiceList)},
)
async def voices(request: web.Request) -> web.Response:
    """`GET /v1/voices?model=`: our fields and ElevenLabs'."""
    model = request.query.get("model")
    cards = request.app[FLEET].cards().values() if model is None else [request.app[JOBS].card(model)]
    return json_response({"voices": shown_voices(cards)})


def shown_voices(cards: Iterable[ModelCard]) -> list[ShownVoice]:
    """Every voice of `cards`, in their order."""
    return [_shown_voice(voice, card) for card in cards for voice in card.voices]


def _shown_voice(voice: Voice, card: ModelCard) -> ShownVoice:
    labels = {"language": voice.language, "gender": voice.gender}
    return ShownVoice(
        **{name: getattr(voice, name) for name in voice.__struct_fields__},
        model=card.name,
        voice_id=voice.id,
        labels={name: value for name, value in labels.items() if value},
    )
