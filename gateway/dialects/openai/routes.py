"""OpenAI's speech API and what its imitators added, for clients that exist: its names, its defaults, its errors."""

import time
from typing import Final

import msgspec
from aiohttp import web

from bus.fleet.messages import Voice
from gateway.api.job_fields import KEY, our_model
from gateway.api.models import shown_model
from gateway.dialects.openai import batch as openai_batch
from gateway.dialects.openai.errors import Refusal, refuse
from gateway.dialects.openai.request import MODELS, Speech, body, order, wants_events
from gateway.dialects.openai.sse import Event, tell
from gateway.http.dialect import Dialect
from gateway.http.operation import EVENTS, SOUND, Answer, Parameter, operation
from gateway.http.responses import json_response
from gateway.http.services import FLEET, JOBS
from gateway.jobs.validation import DEFAULT_MODEL
from gateway.streaming.live import respond
from gateway.streaming.whole import answer_whole


class ModelShown(msgspec.Struct, frozen=True, kw_only=True):
    """A model in OpenAI's words; beside them stands all of its card."""

    #: As it was asked for.
    id: str
    #: The model of ours that it is.
    root: str
    object: str
    created: int
    owned_by: str


class VoiceList(msgspec.Struct, frozen=True, kw_only=True):
    """Kokoro's list, and vLLM-Omni's of those that were uploaded."""

    voices: list[Voice]
    uploaded_voices: list[dict[str, str]]


@operation(
    "Speech, or any sound, as it comes.",
    text="Encoded sound, or server-sent events with `stream_format: sse`. `stream: false` waits for the whole.",
    body=Speech,
    parameters=(KEY,),
    answers={
        200: Answer("The sound; with `stream_format: sse` events of which this is the data.", Event, (*SOUND, *EVENTS))
    },
)
async def speech(request: web.Request) -> web.StreamResponse:
    """`POST /v1/audio/speech`: the sound, from its first block on."""
    began = time.monotonic()
    data = await request.read()
    asked = body.read(data)
    in_events = wants_events(request, asked)
    job, form = order(request, asked, len(data))

    def headers(_: str) -> dict[str, str]:
        return {"OpenAI-Processing-Ms": str(round(1000 * (time.monotonic() - began)))}

    if in_events:
        return await tell(request, job, form, headers)
    if asked.stream is False:
        return await answer_whole(request, job, form, headers)
    return await respond(request, job, form, headers)


@operation(
    "One model, by our name or by one of OpenAI's.",
    parameters=(Parameter("id", str, "A model's name.", "path", required=True),),
    answers={200: Answer("The model.", ModelShown)},
)
async def model(request: web.Request) -> web.Response:
    """`GET /v1/models/{id}`: a model of ours, or what one of OpenAI's names stands for here."""
    name = request.match_info["id"]
    card = request.app[JOBS].card(our_model(request.app[FLEET], name, MODELS))
    return json_response({**shown_model(card), "id": name, "root": card.name})


@operation(
    "The voices of a model.",
    parameters=(Parameter("model", str, "A model's name; default `speech`."),),
    answers={200: Answer("Its voices; each `id` can be asked for as `voice`.", VoiceList)},
)
async def voices(request: web.Request) -> web.Response:
    """`GET /v1/audio/voices?model=`: Kokoro's list, with vLLM-Omni's `uploaded_voices`, of which there are none."""
    card = request.app[JOBS].card(our_model(request.app[FLEET], request.query.get("model", DEFAULT_MODEL), MODELS))
    return json_response(VoiceList(voices=card.voices, uploaded_voices=[]))


DIALECT: Final = Dialect(
    name="openai",
    prefixes=("/v1/audio/", "/v1/models"),
    routes=(
        web.post("/v1/audio/speech", speech),
        *openai_batch.ROUTES,
        web.get("/v1/audio/voices", voices, allow_head=False),
        web.get("/v1/models/{id}", model, allow_head=False),
    ),
    refuse=refuse,
    envelope=Refusal,
)
