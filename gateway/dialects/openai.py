"""OpenAI's `POST /v1/audio/speech`, for clients that exist: its names, its defaults, its envelope for errors."""

from typing import Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import Invalid
from bus.params import short
from gateway.asked import Wishes, our_model, our_voice, to_job
from gateway.bodies import Body
from gateway.codecs import WAV, format_named
from gateway.dialects.dialect import Dialect
from gateway.problems import Problem
from gateway.state import GATEWAY, Gateway
from gateway.streams import ask

_DOOR: Final = "openai"
#: Until routes map names: what OpenAI's clients ask for, where no worker has a model of that name.
_MODELS: Final = frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"})
_VOICES: Final = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)


class VoiceRef(msgspec.Struct, frozen=True):
    id: str


class Speech(Wishes, frozen=True, kw_only=True):
    """OpenAI's fields, then ours. Fields nobody knows are ignored: many clients send extras of other servers."""

    input: str
    model: str = ""
    voice: str | VoiceRef | None = None
    #: OpenAI's default is mp3. Absent means wav here: the first format of ours that says what it is.
    response_format: str | None = None
    speed: float | None = None
    instructions: str | None = None
    stream_format: str | None = None


_body: Final = Body(Speech)


async def speech(request: web.Request) -> web.StreamResponse:
    """Answer with the sound, from its first block on."""
    gateway = request.app[GATEWAY]
    data = await request.read()
    asked = _body.read(data)
    form = format_named(asked.response_format or WAV.codec, "response_format")
    if asked.stream_format not in {None, "audio"}:
        raise Invalid(f"stream_format: {short(str(asked.stream_format))!r} is not one of audio", "stream_format")
    job = gateway.admission.complete(_job(request, gateway, asked), streams=True, size_hint_bytes=len(data))
    return await ask(request, gateway, job, form)


def _job(request: web.Request, gateway: Gateway, asked: Speech) -> wire.Job:
    model = our_model(gateway, asked.model, _MODELS)
    card = gateway.admission.card(model, asked.version)
    voice = asked.voice.id if isinstance(asked.voice, VoiceRef) else asked.voice or ""
    return to_job(
        request,
        _DOOR,
        asked,
        input=asked.input,
        model=model,
        voice=our_voice(voice, _VOICES, card),
        params=_params(asked, card),
    )


def _params(asked: Speech, card: wire.ModelCard) -> dict[str, Any]:
    """The engine's parameters, with `speed` and `instructions` among them where the engine knows them."""
    known = card.param_schema.get("properties", {})
    params = asked.params
    if asked.speed is not None and "speed" in known:
        params = {"speed": asked.speed, **params}
    elif asked.speed not in {None, 1.0}:
        raise Invalid(f"speed: {card.name} has one speed, 1.0, and {asked.speed:g} was asked for", "speed")
    if asked.instructions and "instructions" in known:
        params = {"instructions": asked.instructions, **params}
    return params


def refuse(problem: Problem) -> web.Response:
    """`{"error": {message, type, param, code}}`; what is wrong with a request is 400 there, never 422."""
    status = 400 if problem.status == 422 else problem.status
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": problem.detail, "type": kind, "param": problem.path or None, "code": problem.code}
    return web.Response(
        status=status,
        body=msgspec.json.encode({"error": error}),
        content_type="application/json",
        headers=problem.headers,
    )


DIALECT: Final = Dialect(prefixes=("/v1/audio/",), routes=(web.post("/v1/audio/speech", speech),), refuse=refuse)
