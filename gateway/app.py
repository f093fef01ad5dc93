"""The HTTP application: its routes, and what becomes of whatever a handler raises."""

import asyncio
import uuid
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from bus.errors import BusError
from bus.telemetry.logging import logger
from gateway.access.authenticator import KeyPlace
from gateway.access.caller import CALLER
from gateway.api import audio, batch, events, jobs, marks, metrics
from gateway.api import fleet as fleet_routes
from gateway.dialects.registry import Envelopes, dialects
from gateway.http import openapi
from gateway.http import rate_limit_headers as limits_answer
from gateway.http.gateway import BEGUN, GATEWAY, JOB, Gateway
from gateway.http.operation import key_places, open_paths
from gateway.http.problems import JOB_HEADER, REQUEST_ID, GatewayError, describe
from gateway.http.rate_limit_headers import GRANTED, makes_work
from gateway.streaming.live import cut_short

log = logger(__name__)

_ENVELOPES: Final = web.AppKey("envelopes", Envelopes)
#: Paths that need no key, and where the other handlers' requests may bear theirs.
_OPEN_PATHS: Final = web.AppKey("open_paths", frozenset[str])
_KEY_PLACES: Final = web.AppKey("key_places", dict[object, KeyPlace])
_FORESEEN: Final = (BusError, GatewayError, web.HTTPException, web.RequestPayloadError)


def make_app(gateway: Gateway) -> web.Application:
    app = web.Application(middlewares=[_answer], client_max_size=gateway.settings.max_body_bytes)
    known = dialects()
    app[GATEWAY] = gateway
    app[metrics.METRICS] = metrics.GatewayMetrics(gateway)
    app.cleanup_ctx.append(metrics.counting)
    app[_ENVELOPES] = Envelopes(known)
    app.on_response_prepare.append(limits_answer.mark)
    if gateway.origins:
        app.on_response_prepare.append(gateway.origins.mark)
    app.add_routes(
        [
            web.post("/v1/jobs", jobs.create),
            web.get("/v1/jobs", jobs.index, allow_head=False),
            web.post("/v1/jobs:batch", batch.create),
            web.put("/v1/jobs/{id}", jobs.put),
            web.get("/v1/jobs/{id}", jobs.show, allow_head=False),
            web.delete("/v1/jobs/{id}", jobs.cancel),
            web.get("/v1/jobs/{id}/events", events.events, allow_head=False),
            web.get("/v1/jobs/{id}/marks", marks.marks, allow_head=False),
            web.get("/v1/jobs/{id}/audio", audio.audio),
            web.get("/v1/jobs/{id}/blocks/{n}", audio.block),
            web.get("/v1/models", fleet_routes.models),
            web.get("/v1/voices", fleet_routes.voices),
            web.get("/v1/fleet", fleet_routes.fleet),
            web.get("/livez", fleet_routes.livez),
            web.get("/readyz", fleet_routes.readyz),
            web.get("/health", fleet_routes.health),
            web.get("/metrics", metrics.metrics),
            web.get("/openapi.json", openapi.document),
            web.get("/docs", openapi.page),
        ]
    )
    for dialect in known:
        app.add_routes(dialect.routes)
    app[_OPEN_PATHS] = open_paths(app.router)
    app[_KEY_PLACES] = key_places(app.router)
    app[openapi.DOCUMENT] = msgspec.json.encode(openapi.describe(app.router, known))
    return app


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the handler; what it raises before the first byte of its answer becomes an answer, later a cut.

    An error that nobody foresaw gets no detail: a traceback is for the log, not for the client.
    """
    gateway = request.app[GATEWAY]
    task = asyncio.current_task()
    assert task is not None
    gateway.enter(task)
    try:
        preflight = gateway.origins.preflight(request)
        if preflight is not None:
            return preflight
        request[CALLER] = asks = gateway.authenticator.authenticate(
            request,
            request.app[_KEY_PLACES].get(request.match_info.handler, "head"),
            is_open=request.path in request.app[_OPEN_PATHS],
        )
        if makes_work(request) and (granted := gateway.limiter.request(asks)):
            request[GRANTED] = granted
        return await handler(request)
    except Exception as error:  # noqa: BLE001  # this is the boundary: nothing may pass it but an answer
        return _of_error(request, error)
    finally:
        gateway.leave(task)


def _of_error(request: web.Request, error: Exception) -> web.StreamResponse:
    begun: web.StreamResponse | None = request.get(BEGUN)
    context = {"job": request[JOB]} if JOB in request else {}
    # What a client can quote, and the log has: its job's id, or one made for this error alone.
    quoted = request.get(JOB) or uuid.uuid4().hex
    if isinstance(error, ConnectionError):
        log.debug("stream.abandoned", error=str(error), **context)
        return begun if begun is not None else web.Response()
    if not isinstance(error, _FORESEEN):
        log.error(
            "http.failed", method=request.method, path=request.path[:200], request=quoted, exc_info=error, **context
        )
    if begun is not None:
        log.warning("stream.cut", error=f"{type(error).__name__}: {error}", **context)
        cut_short(request)
        return begun
    problem = describe(error, request)
    log.info(
        "http.refused", status=problem.status, code=problem.code, path=request.path[:200], request=quoted, **context
    )
    response = request.app[_ENVELOPES].refuse(request.path, problem)
    if context:
        response.headers[JOB_HEADER] = request[JOB]
    response.headers[REQUEST_ID] = quoted
    return response
