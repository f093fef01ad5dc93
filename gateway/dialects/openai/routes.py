"""OpenAI's speech API, with the additions of servers that imitate it."""

import time
from typing import Final

import msgspec
from aiohttp import web

from gateway.api.job_fields import KEY, own_model
from gateway.api.models import shown_model
from gateway.api.routing import named_cards, shown_card
from gateway.dialects.openai.batch import ROUTES as BATCH_ROUTES
from gateway.dialects.openai.errors import ErrorResponse, refuse
from gateway.dialects.openai.request import (
    MODELS,
    SPEECH,
    SpeechRequest,
    build_speech_job,
    ignored_header,
    wants_events,
)
from gateway.dialects.openai.sse import Event, respond_with_events
from gateway.dialects.openai.voices import ROUTES as VOICE_ROUTES
from gateway.http.dialect import Dialect
from gateway.http.operation import AUDIO, EVENTS, Answer, Parameter, operation
from gateway.http.responses import json_response
from gateway.http.services import FLEET
from gateway.streaming.live import respond
from gateway.streaming.whole import respond_whole


class ShownModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model with OpenAI's fields; the fields of its card follow."""

    #: The name in the request.
    id: str
    #: The name of our model that `id` stands for.
    root: str
    object: str
    created: int
    owned_by: str


class NamedModel(msgspec.Struct, frozen=True):
    """A model by the name that requests have, and by the name that people read."""

    id: str
    name: str


class NamedModels(msgspec.Struct, frozen=True):
    """The list of models of servers that imitate OpenAI's speech API."""

    models: list[NamedModel]


@operation(
    "Generate speech or any other audio.",
    text="The response is encoded audio, or server-sent events with `stream_format: sse`. It begins with the first "
    "block of audio, or with `stream: false` once all audio is made.",
    body=SpeechRequest,
    parameters=(KEY,),
    answers={
        200: Answer("The audio, or with `stream_format: sse` events with this as data.", Event, (*AUDIO, *EVENTS))
    },
)
async def speech(request: web.Request) -> web.StreamResponse:
    """`POST /v1/audio/speech`: the audio, from its first block on."""
    began = time.monotonic()
    data = await request.read()
    body = SPEECH.read(data)
    in_events = wants_events(request, body)
    job, form = build_speech_job(request, body, len(data), foreign_params=True)

    ignored = ignored_header(body.params, job) if body.params else {}

    def headers(_: str) -> dict[str, str]:
        """The time until the response begins, and what of the request was ignored."""
        return {"OpenAI-Processing-Ms": str(round(1000 * (time.monotonic() - began))), **ignored}

    if in_events:
        return await respond_with_events(request, job, form, headers)
    if body.stream is False:
        return await respond_whole(request, job, form, headers)
    return await respond(request, job, form, headers)


@operation(
    "Show one model, by our name or by one of OpenAI's.",
    parameters=(Parameter("id", str, "A model's name.", "path", required=True),),
    answers={200: Answer("The model.", ShownModel)},
)
async def model(request: web.Request) -> web.Response:
    """`GET /v1/models/{id}`: one of our models, or the one that a name of OpenAI's stands for."""
    name = request.match_info["id"]
    card = shown_card(request, name, own_model(request.app[FLEET], name, MODELS))
    return json_response({**shown_model(request, name, card), "root": card.name})


@operation(
    "List the models.",
    answers={200: Answer("Each `id` is a value for `model`.", NamedModels)},
    is_list=True,
)
async def models(request: web.Request) -> web.Response:
    """`GET /v1/audio/models`: the list that Open WebUI requests from servers that imitate OpenAI's speech API."""
    return json_response(NamedModels([NamedModel(name, name) for name in named_cards(request)]))


DIALECT: Final = Dialect(
    name="openai",
    title="OpenAI",
    prefixes=("/v1/audio/", "/v1/models"),
    routes=(
        web.post("/v1/audio/speech", speech),
        *BATCH_ROUTES,
        *VOICE_ROUTES,
        web.get("/v1/audio/models", models),
        web.get("/v1/models/{id}", model),
    ),
    refuse=refuse,
    envelope=ErrorResponse,
)
