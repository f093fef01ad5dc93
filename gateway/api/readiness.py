"""Liveness, readiness and a health summary."""

from collections.abc import Iterable
from typing import Final

from aiohttp import web
from msgspec import UNSET

from bus.fleet.fleet import Fleet
from bus.fleet.messages import Heartbeat
from bus.params import short
from bus.transport.connection import Connection
from gateway.api.answers import Health, Status
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.requests import Requests
from gateway.http.responses import json_response
from gateway.http.services import FLEET, JOBS, REQUESTS
from gateway.jobs.cache import Outcome


class Readiness:
    """Whether this gateway would accept a job that a worker would start now."""

    def __init__(self, connection: Connection, fleet: Fleet, requests: Requests) -> None:
        self._connection = connection
        self._fleet = fleet
        self._requests = requests

    def missing(self) -> list[str]:
        """Descriptions of everything that is missing; empty if the gateway is ready."""
        missing = []
        if not self._connection.state.is_up:
            missing.append("the connection to NATS")
        if self._requests.stopping.is_set():
            missing.append("time: this gateway is stopping")
        known, ready = self._fleet.known_models, self._fleet.ready_workers
        if not ready:
            missing.append("a worker that is ready")
        elif unknown := sorted({model for seen in ready for model in seen.heartbeat.models if model not in known}):
            missing.append(f"the description of {', '.join(unknown)}")
        return missing


READINESS: Final = web.AppKey("readiness", Readiness)


@operation("Whether the process answers.", answers={200: Answer("It does.", Status)}, is_open=True)
async def livez(request: web.Request) -> web.Response:
    """`GET /livez`: the process answers."""
    return json_response(Status("ok"))


@operation(
    "Whether a job would be accepted and started now.",
    parameters=(
        Parameter("worker", str, "This worker must be there too; may be repeated."),
        Parameter("model", str, "Each of those workers must serve this model; may be repeated."),
    ),
    answers={200: Answer("It would.", Status), 503: Answer("A list of everything that is missing.", Status)},
    is_open=True,
)
async def readyz(request: web.Request) -> web.Response:
    """`GET /readyz`: 200 if a job would be accepted and a worker would start it now, else 503 and everything missing.

    `?worker=` and `?model=`, each any number of times: every one of those workers must serve every one of the models.
    """
    missing, query = request.app[READINESS].missing(), request.query
    failed: dict[str, dict[str, str]] = {}
    models = set(query.getall("model", []))
    for worker in query.getall("worker", []):
        seen = request.app[FLEET].workers.get(worker)
        absent = models - set(seen.heartbeat.models if seen else ())
        if reasons := {model: why for model, why in (seen.heartbeat.failed if seen else {}).items() if model in absent}:
            failed[worker] = reasons
            missing += [f"{short(worker)}: {model}: {why}" for model, why in reasons.items()]
        if awaited := absent - reasons.keys():
            missing.append(f"{short(worker)}: {short(', '.join(sorted(awaited)))}")
    if missing:
        return json_response(Status("not ready", missing, failed or UNSET), 503, {"Retry-After": "1"})
    return json_response(Status("ok"))


@operation(
    "Readiness and a few figures, for people.",
    answers={200: Answer("Ready.", Health), 503: Answer("Not ready.", Health)},
    is_open=True,
)
async def health(request: web.Request) -> web.Response:
    """`GET /health`: readiness and a few figures, for people."""
    missing, fleet, jobs = request.app[READINESS].missing(), request.app[FLEET], request.app[JOBS]
    body = Health(
        status="not ready" if missing else "ok",
        missing=missing,
        nats=jobs.bus.connection.state.is_up,
        workers=len(fleet.workers),
        # A worker reports itself ready once its engines are loaded and warm.
        model_loaded=any(seen.heartbeat.models for seen in fleet.ready_workers),
        gpu_memory_used=_gpu_bytes(seen.heartbeat for seen in fleet.workers.values()),
        requests=len(request.app[REQUESTS]),
        clock_skew_s=round(jobs.bus.clock.skew_s, 3),
        cache=_cache(jobs.cache.counts),
    )
    return json_response(body, 503 if missing else 200)


def _cache(counts: dict[Outcome, int]) -> dict[str, float | int | None]:
    """Responses by outcome, and the share of them that needed no run of their own; None before the first response."""
    total = sum(counts.values())
    rate = None if not total else round(1 - counts["miss"] / total, 4)
    return {"misses": counts["miss"], "shared": counts["shared"], "hits": counts["hit"], "rate": rate}


def _gpu_bytes(beats: Iterable[Heartbeat]) -> int | None:
    """Device memory held by all workers that report it; 0 if every worker has a CPU alone, None if none reports it."""
    beats = list(beats)
    reported = [beat.device_bytes for beat in beats if beat.device_bytes is not None]
    return sum(reported) if reported or {beat.device for beat in beats} == {"cpu"} else None
