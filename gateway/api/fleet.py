"""What can be asked, who works, and whether this process is of use."""

import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.fleet.presence import Seen
from bus.params import short
from gateway.api.answers import Health, ModelList, ShownFleet, Status, VoiceList
from gateway.dialects.elevenlabs import voices as elevenlabs_voices
from gateway.http.gateway import GATEWAY, Gateway, json_answer
from gateway.http.operation import Answer, Parameter, operation

#: OpenAI's clients expect a date of every model. Ours have none: the one of the first version that had them.
_CREATED: Final = 1_760_000_000


@operation("What can be asked for.", answers={200: Answer("OpenAI's list, our cards in it.", ModelList)})
async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`: OpenAI's list, our cards in it."""
    cards = sorted(request.app[GATEWAY].fleet.cards().values(), key=lambda card: card.name)
    return json_answer({"object": "list", "data": [shown_model(card) for card in cards]})


def shown_model(card: wire.ModelCard) -> dict[str, Any]:
    """A model as OpenAI's clients expect it, its card beside."""
    told = {name: value for name, value in msgspec.to_builtins(card).items() if name != "name"}
    return {"id": card.name, "object": "model", "created": _CREATED, "owned_by": "antiphon", **told}


@operation(
    "Every voice.",
    parameters=(Parameter("model", str, "Of this model alone."),),
    answers={200: Answer("In our words and in ElevenLabs'.", VoiceList)},
)
async def voices(request: web.Request) -> web.Response:
    """`GET /v1/voices?model=`: our fields and ElevenLabs'."""
    gateway = request.app[GATEWAY]
    model = request.query.get("model")
    cards = gateway.fleet.cards().values() if model is None else [gateway.admission.card(model)]
    return json_answer({"voices": elevenlabs_voices.told(cards)})


@operation("Who works.", answers={200: Answer("Workers by id.", ShownFleet)})
async def fleet(request: web.Request) -> web.Response:
    """`GET /v1/fleet`."""
    gateway = request.app[GATEWAY]
    seen = sorted(gateway.fleet.workers.values(), key=lambda each: each.beat.id)
    return json_answer({"workers": [_worker(gateway, each) for each in seen]})


def _worker(gateway: Gateway, seen: Seen) -> dict[str, Any]:
    beat = seen.beat
    return {
        "id": beat.id,
        "pid": beat.pid,
        "host": beat.host,
        "models": beat.models,
        "slots": beat.slots,
        "in_flight": len(beat.held),
        "state": "silent" if gateway.fleet.is_silent(seen) else beat.state,
        "device": beat.device,
        "device_bytes": beat.device_bytes,
        "breaker": beat.breaker,
        "weight": beat.weight,
        "backup": beat.backup,
        "boot": beat.boot,
        "rss_bytes": beat.rss_bytes,
        "heard_s": round(time.monotonic() - seen.heard_at, 3),
    }


@operation("Whether the process answers.", answers={200: Answer("It does.", Status)}, is_open=True)
async def livez(request: web.Request) -> web.Response:
    """`GET /livez`: the process answers."""
    return json_answer({"status": "ok"})


@operation(
    "Whether a job would be accepted and begun now.",
    parameters=(
        Parameter("worker", str, "This one must be there too; may be repeated."),
        Parameter("model", str, "Each of those workers must serve it; may be repeated."),
    ),
    answers={200: Answer("It would.", Status), 503: Answer("What is missing.", Status)},
    is_open=True,
)
async def readyz(request: web.Request) -> web.Response:
    """`GET /readyz`: 200 if a job would be accepted and a worker would take it now, else 503 with what is missing.

    With `?worker=` and `?model=`, each any number of times: if besides every one of those workers serves every model.
    """
    gateway, query = request.app[GATEWAY], request.query
    lacking = missing(gateway)
    models = set(query.getall("model", []))
    for worker in query.getall("worker", []):
        seen = gateway.fleet.workers.get(worker)
        if absent := models - set(seen.beat.models if seen else ()):
            lacking.append(f"{short(worker)}: {short(', '.join(sorted(absent)))}")
    if lacking:
        return json_answer({"status": "not ready", "missing": lacking}, 503, {"Retry-After": "1"})
    return json_answer({"status": "ok"})


@operation(
    "Readiness and some figures, for people.",
    answers={200: Answer("Ready.", Health), 503: Answer("Not ready.", Health)},
    is_open=True,
)
async def health(request: web.Request) -> web.Response:
    """`GET /health`: readiness and some figures, for people."""
    gateway = request.app[GATEWAY]
    lacking = missing(gateway)
    told = {
        "status": "not ready" if lacking else "ok",
        "missing": lacking,
        "nats": gateway.bus.connection.is_up,
        "workers": len(gateway.fleet.workers),
        # Ready is said by a worker whose engines are loaded and warm.
        "model_loaded": any(seen.beat.models for seen in _takers(gateway)),
        "gpu_memory_used": _gpu_bytes(seen.beat for seen in gateway.fleet.workers.values()),
        "requests": len(gateway.busy),
        "clock_skew_s": round(gateway.bus.clock.skew_s, 3),
        "cache": gateway.reuse.told(),
    }
    return json_answer(told, 503 if lacking else 200)


def missing(gateway: Gateway) -> list[str]:
    """What is wanting for a job to be accepted and begun now, in words."""
    lacking = []
    if not gateway.bus.connection.is_up:
        lacking.append("the connection to NATS")
    if gateway.stopping.is_set():
        lacking.append("time: this gateway is stopping")
    known, takers = gateway.fleet.known_models, _takers(gateway)
    if not takers:
        lacking.append("a worker that is ready")
    elif unknown := sorted({model for seen in takers for model in seen.beat.models if model not in known}):
        lacking.append(f"the description of {', '.join(unknown)}")
    return lacking


def _gpu_bytes(beats: Iterable[wire.Heartbeat]) -> int | None:
    """Of all that tell. 0 where every worker has but a CPU; None where nobody tells, or there is nobody."""
    beats = list(beats)
    told = [beat.device_bytes for beat in beats if beat.device_bytes is not None]
    return sum(told) if told or {beat.device for beat in beats} == {"cpu"} else None


def _takers(gateway: Gateway) -> list[Seen]:
    """Workers that would take a job now."""
    fleet = gateway.fleet
    return [seen for seen in fleet.workers.values() if seen.beat.state == "ready" and not fleet.is_silent(seen)]
