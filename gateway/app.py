"""The HTTP application: its routes, and the boundary at which an exception of a handler becomes a response."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from bus.telemetry.logging import logger
from gateway.access.authenticator import NO_TENANT, KeyPlace
from gateway.access.caller import CALLER, PUBLIC
from gateway.access.origins import Origins
from gateway.api import audio, batch, blobs, events, fleet, jobs, links, marks, metrics, models, readiness
from gateway.compose import Services
from gateway.dialects.registry import dialects
from gateway.http import openapi
from gateway.http.dialect import Dialect, dialect_of
from gateway.http.headers import JOB_HEADER, REQUEST_ID
from gateway.http.heads import check_head
from gateway.http.operation import counted_handlers, key_places, list_handlers, open_paths
from gateway.http.problems import Problem, describe_http, is_expected
from gateway.http.responses import BEGUN, GRANTED, JOB, add_limit_headers, cut_short, log_context
from gateway.http.services import (
    AUTHENTICATOR,
    BUFFERS,
    CONNECTIONS,
    COUNTED,
    ENCODED,
    FLEET,
    JOBS,
    LIMITER,
    PACING,
    READS,
    REQUESTS,
    ROUTES,
    VOICES,
)
from gateway.webhooks.acceptance import WEBHOOKS

log = logger(__name__)

_DIALECTS: Final = web.AppKey("dialects", Sequence[Dialect])
#: Paths that need no key, and where the requests of the other handlers may have theirs.
_OPEN_PATHS: Final = web.AppKey("open_paths", frozenset[str])
_OPEN_LISTS: Final = web.AppKey("open_lists", frozenset[object])
_KEY_PLACES: Final = web.AppKey("key_places", dict[object, KeyPlace])
_ORIGINS: Final = web.AppKey("origins", Origins)
#: Tenants whose callers have a share of the connections by their addresses.
_OF_ADDRESSES: Final = frozenset({PUBLIC, NO_TENANT})
_OF_HTTP: Final = (web.HTTPException, web.RequestPayloadError)


def make_app(services: Services) -> web.Application:
    """The application of one gateway process; every handler finds the services it needs under their keys."""
    app = web.Application(middlewares=[_answer], client_max_size=services.settings.max_body_bytes)
    app[JOBS] = services.jobs
    app[FLEET] = services.fleet
    app[ROUTES] = services.routes
    app[AUTHENTICATOR] = services.authenticator
    app[LIMITER] = services.limiter
    app[REQUESTS] = services.requests
    app[PACING] = services.pacing
    app[ENCODED] = services.encoded
    app[BUFFERS] = services.buffers
    app[READS] = services.reads
    app[CONNECTIONS] = services.open_connections
    app[WEBHOOKS] = services.webhooks
    app[blobs.BLOBS] = services.blobs
    app[VOICES] = services.voices
    app[readiness.READINESS] = readiness.Readiness(services.bus.connection, services.fleet, services.requests)
    app[metrics.METRICS] = metrics.GatewayMetrics(
        services.jobs,
        services.fleet,
        services.interest,
        services.retention,
        services.starts,
        services.requests,
        services.buffers,
        services.open_connections,
        app[readiness.READINESS],
    )
    app.cleanup_ctx.append(metrics.counting)
    known = dialects()
    app[_DIALECTS] = known
    app[_ORIGINS] = services.origins
    app.on_response_prepare.append(add_limit_headers)
    if services.origins:
        app.on_response_prepare.append(services.origins.mark)
    app.add_routes(_NATIVE)
    for dialect in known:
        app.add_routes(dialect.routes)
    app[openapi.DOCUMENT] = msgspec.json.encode(openapi.describe(app.router, known))
    _add_trailing_slashes(app.router)
    app[_OPEN_PATHS] = open_paths(app.router)
    app[_OPEN_LISTS] = list_handlers(app.router) if services.settings.open_lists else frozenset()
    app[_KEY_PLACES] = key_places(app.router)
    app[COUNTED] = counted_handlers(app.router)
    return app


_NATIVE: Final = [
    web.post("/v1/jobs", jobs.create),
    web.get("/v1/jobs", jobs.index, allow_head=False),
    web.post("/v1/jobs:batch", batch.create),
    web.put("/v1/jobs/{id}", jobs.put),
    web.get("/v1/jobs/{id}", jobs.show, allow_head=False),
    web.delete("/v1/jobs/{id}", jobs.cancel),
    web.get("/v1/jobs/{id}/events", events.events, allow_head=False),
    web.get("/v1/jobs/{id}/marks", marks.marks, allow_head=False),
    web.get("/v1/jobs/{id}/audio", audio.audio),
    web.post("/v1/jobs/{id}/links", links.create),
    web.delete("/v1/jobs/{id}/links/{link}", links.revoke),
    web.get("/v1/jobs/{id}/blocks/{n}", audio.block),
    web.put("/v1/blobs", blobs.put),
    web.get("/v1/blobs/{digest}", blobs.show),
    web.delete("/v1/blobs/{digest}", blobs.delete),
    web.get("/v1/models", models.models),
    web.get("/v1/voices", models.voices),
    web.get("/v1/fleet", fleet.fleet),
    web.get("/livez", readiness.livez),
    web.get("/readyz", readiness.readyz),
    web.get("/health", readiness.health),
    web.get("/metrics", metrics.metrics),
    web.get("/openapi.json", openapi.document),
    web.get("/docs", openapi.page),
    web.get("/", openapi.root),
]


def _add_trailing_slashes(router: web.UrlDispatcher) -> None:
    """Answer every path with a slash behind it as the path itself."""
    for route in list(router.routes()):
        if route.resource is not None and not route.resource.canonical.endswith("/"):
            router.add_route(route.method, f"{route.resource.canonical}/", route.handler)


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the handler of a request.

    An exception before the first byte of the response becomes an error response, a later one cuts the connection. The
    text and traceback of an unexpected error go to the log alone.
    """
    requests = request.app[REQUESTS].tasks
    task = asyncio.current_task()
    assert task is not None
    requests.add(task)
    try:
        return await _serve(request, handler)
    except Exception as error:  # noqa: BLE001  # the boundary: every exception of a handler becomes a response here
        return _error_response(request, error)
    finally:
        requests.discard(task)


async def _serve(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Authenticate the request, count it against the limits and the shares, and run its handler."""
    app, headers = request.app, request.headers
    connections = app[CONNECTIONS]
    if connections.spare:
        connections.check_spare(request)
    if hdrs.CONTENT_ENCODING in headers or not "".join(headers.values()).isascii():
        check_head(request)
    if request.method == hdrs.METH_OPTIONS and (preflight := app[_ORIGINS].preflight(request)) is not None:
        return preflight
    route = request.match_info.handler
    is_open = request.path in app[_OPEN_PATHS] or route in app[_OPEN_LISTS]
    owner = app[AUTHENTICATOR].authenticate(request, app[_KEY_PLACES].get(route, "head"), is_open=is_open)
    request[CALLER] = owner
    busy, whose = connections.busy, owner.address if owner.tenant in _OF_ADDRESSES else owner.tenant
    busy[whose] = busy.get(whose, 0) + 1
    pacing = app[PACING]
    pacing.counts[whose] = pacing.counts.get(whose, 0.0) + 1.0
    try:
        if pacing.is_busy:
            await pacing.turn(whose)
        if owner.link is not None:
            await app[AUTHENTICATOR].links.check(owner.link)
        if connections.total >= connections.num_calm and not is_open:
            connections.check_share(owner.owner, busy[whose])
        limiter = app[LIMITER].requests
        is_limited = limiter.limits_addresses or owner.limits.requests_per_s is not None
        if is_limited and route in app[COUNTED] and (granted := limiter.grant(owner)):
            request[GRANTED] = granted
        return await handler(request)
    finally:
        busy[whose] -= 1
        if not busy[whose]:
            del busy[whose]


def _error_response(request: web.Request, error: Exception) -> web.StreamResponse:
    begun: web.StreamResponse | None = request.get(BEGUN)
    context = log_context(request)
    # The id that a client can quote, and that the log has: the job's, or one of this error alone.
    quoted = request.get(JOB) or uuid.uuid4().hex
    if isinstance(error, ConnectionError):
        log.debug("stream.abandoned", error=str(error), **context)
        return begun if begun is not None else web.Response()
    if not (isinstance(error, _OF_HTTP) or is_expected(error)):
        log.error(
            "http.failed", method=request.method, path=request.path[:200], request=quoted, exc_info=error, **context
        )
    if begun is not None:
        log.warning("stream.cut", error=f"{type(error).__name__}: {error}", **context)
        cut_short(request)
        return begun
    problem = describe_http(error, request)
    log.info(
        "http.refused", status=problem.status, code=problem.code, path=request.path[:200], request=quoted, **context
    )
    response = refusal(request.app, request.path, problem)
    if JOB in request:
        response.headers[JOB_HEADER] = request[JOB]
    response.headers[REQUEST_ID] = quoted
    return response


def refusal(app: web.Application, path: str, problem: Problem) -> web.Response:
    """The response that refuses a request to `path`, in the format of the API that the path belongs to."""
    return dialect_of(path, app[_DIALECTS]).refuse(problem)
