"""What can be asked, who works, and whether this process is of use."""

import time
from typing import Any, Final

import msgspec
from aiohttp import web

from bus.presence import Seen
from gateway.state import GATEWAY, Gateway, json_answer

#: OpenAI's clients expect a date of every model. Ours have none: the one of the first version that had them.
_CREATED: Final = 1_760_000_000


async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`: OpenAI's list, our cards in it."""
    cards = sorted(request.app[GATEWAY].fleet.cards().values(), key=lambda card: card.name)
    data = [
        {
            "id": card.name,
            "object": "model",
            "created": _CREATED,
            "owned_by": "antiphon",
            **{name: value for name, value in msgspec.to_builtins(card).items() if name != "name"},
        }
        for card in cards
    ]
    return json_answer({"object": "list", "data": data})


async def voices(request: web.Request) -> web.Response:
    """`GET /v1/voices?model=`."""
    gateway = request.app[GATEWAY]
    model = request.query.get("model")
    cards = gateway.fleet.cards().values() if model is None else [gateway.admission.card(model)]
    told = [{**msgspec.to_builtins(voice), "model": card.name} for card in cards for voice in card.voices]
    return json_answer({"voices": told})


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
        "breaker": beat.breaker,
        "weight": beat.weight,
        "backup": beat.backup,
        "boot": beat.boot,
        "rss_bytes": beat.rss_bytes,
        "heard_s": round(time.monotonic() - seen.heard_at, 3),
    }


async def livez(request: web.Request) -> web.Response:
    """`GET /livez`: the process answers."""
    return json_answer({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """`GET /readyz`: 200 if a job would be accepted and a worker would take it now, else 503 with what is missing."""
    missing = _missing(request.app[GATEWAY])
    if missing:
        return json_answer({"status": "not ready", "missing": missing}, 503, {"Retry-After": "1"})
    return json_answer({"status": "ok"})


async def health(request: web.Request) -> web.Response:
    """`GET /health`: readiness and some figures, for people."""
    gateway = request.app[GATEWAY]
    missing = _missing(gateway)
    told = {
        "status": "not ready" if missing else "ok",
        "missing": missing,
        "nats": gateway.bus.connection.is_up,
        "workers": len(gateway.fleet.workers),
        "requests": len(gateway.busy),
        "clock_skew_s": round(gateway.bus.clock.skew_s, 3),
    }
    return json_answer(told, 503 if missing else 200)


def _missing(gateway: Gateway) -> list[str]:
    missing = []
    if not gateway.bus.connection.is_up:
        missing.append("the connection to NATS")
    if gateway.stopping.is_set():
        missing.append("time: this gateway is stopping")
    known = gateway.fleet.known_models
    takers = [
        seen
        for seen in gateway.fleet.workers.values()
        if seen.beat.state == "ready" and not gateway.fleet.is_silent(seen)
    ]
    if not takers:
        missing.append("a worker that is ready")
    elif unknown := sorted({model for seen in takers for model in seen.beat.models if model not in known}):
        missing.append(f"the description of {', '.join(unknown)}")
    return missing
