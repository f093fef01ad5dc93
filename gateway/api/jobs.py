"""The native API of jobs: accept, show, list, cancel."""

import asyncio
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta

from bus import wire
from bus.errors import BusError, Invalid, Unreachable
from bus.jobs import lookup
from bus.jobs.client import Bus
from bus.jobs.status import Status, derive
from bus.params import short
from bus.subjects import parse_birth
from bus.telemetry.logging import logger
from bus.transport.direct import Stored
from bus.wire import State
from gateway.access.caller import caller
from gateway.api.answers import ID, EndedJob, JobList
from gateway.api.job_fields import KEY, HttpJobRequest, build_job, our_model
from gateway.http.bodies import Body
from gateway.http.headers import JOB_HEADER, voice_headers
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.query import integer
from gateway.http.responses import JOB, json_response
from gateway.http.services import JOBS, READS, job_key
from gateway.jobs.view import AcceptedJob, ShownJob, view, when
from gateway.webhooks.acceptance import WEBHOOKS

log = logger(__name__)

_API: Final = "jobs"
_MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 20
#: Jobs of a list that are read at a time.
_CONCURRENCY: Final = 32


_body: Final = Body(HttpJobRequest)
_ACCEPTED: Final = {
    202: Answer("The job is accepted, and durable.", AcceptedJob),
    200: Answer("The job existed.", AcceptedJob),
}


@operation(
    "Accept a job.",
    text="The same body sent again with the same `Idempotency-Key` answers with the same job.",
    body=HttpJobRequest,
    parameters=(KEY,),
    answers={
        202: Answer("The job is accepted, and durable.", AcceptedJob),
        200: Answer("The job existed.", AcceptedJob),
    },
)
async def create(request: web.Request) -> web.Response:
    """`POST /v1/jobs`. An `Idempotency-Key` names the job instead of a random id."""
    data = await request.read()
    body = _body.read(data)
    return await _accept(request, body, body.id, len(data))


@operation(
    "Accept a job under an id that the caller chose.",
    body=HttpJobRequest,
    parameters=(ID,),
    answers={
        202: Answer("The job is accepted, and durable.", AcceptedJob),
        200: Answer("The job existed.", AcceptedJob),
    },
)
async def put(request: web.Request) -> web.Response:
    """`PUT /v1/jobs/{id}`."""
    job_id = request.match_info["id"]
    data = await request.read()
    body = _body.read(data)
    if body.id and body.id != job_id:
        raise Invalid(f"id: the body says {short(body.id)!r}, the path {short(job_id)!r}", "id")
    return await _accept(request, body, job_id, len(data))


async def _accept(request: web.Request, body: HttpJobRequest, job_id: str, size_bytes: int) -> web.Response:
    jobs, webhooks = request.app[JOBS], request.app[WEBHOOKS]
    model = our_model(request, body.model, version=body.version, job_id=job_id)
    job = build_job(request, _API, body, model, job_id=job_id)
    job = jobs.validate(job, streams=False, size_hint_bytes=size_bytes)
    request[JOB] = job.id
    accepted = await webhooks.accept(webhooks.with_webhook(job, body.webhook))
    headers = {"Location": f"/v1/jobs/{job.id}", JOB_HEADER: job.id, **voice_headers(accepted.job)}
    if accepted.is_new:
        return json_response(AcceptedJob.of(accepted.birth, State.QUEUED), 202, headers)
    found = await jobs.find(jobs.key(job.tenant, job.id))
    return json_response(AcceptedJob.of(accepted.birth, found.state), 200, headers)


@operation("Show a job.", parameters=(ID,), answers={200: Answer("The job.", ShownJob)})
async def show(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}`."""
    jobs = request.app[JOBS]
    found = await jobs.find(job_key(request))
    shown = await view(jobs.bus, found)
    if found.state == State.QUEUED and (place := await jobs.queue_position(found.birth)) is not None:
        shown.position = place.position
        shown.eta_s = UNSET if place.eta_s is None else place.eta_s
    return json_response(shown, headers={JOB_HEADER: found.birth.job.id, **voice_headers(found.birth.job)})


@operation(
    "Cancel a job.",
    parameters=(ID,),
    answers={200: Answer("The state it ended in; another one if it had ended before.", EndedJob)},
)
async def cancel(request: web.Request) -> web.Response:
    """`DELETE /v1/jobs/{id}`: answers with the state that the job ended in, perhaps before this request."""
    key = job_key(request)
    ended = await request.app[JOBS].cancel(key, "cancelled by its owner")
    return json_response(EndedJob(key.job, ended), headers={JOB_HEADER: key.job})


@operation(
    "List the caller's jobs, newest first.",
    parameters=(
        Parameter("limit", Annotated[int, Meta(ge=1, le=_MAX_LIMIT)], "Jobs of one page."),
        Parameter("before", Annotated[int, Meta(ge=1, le=2**63 - 1)], "`next` of the previous page."),
    ),
    answers={200: Answer("A page.", JobList)},
)
async def index(request: web.Request) -> web.Response:
    """`GET /v1/jobs?limit=&before=`: newest first; `next` is the `before` of the next page."""
    bus, reads, owner = request.app[JOBS].bus, request.app[READS], caller(request).owner
    limit = integer(request, "limit", 1, _MAX_LIMIT) or _DEFAULT_LIMIT
    before_seq = integer(request, "before", 1, 2**63 - 1)
    async with reads.turn(owner):
        rows, older = await lookup.births(bus, caller(request).tenant, limit, before_seq, _Row.of)

    async def listed(row: _Row) -> msgspec.Raw:
        """A row as JSON, once it is the caller's turn to read it."""
        async with reads.turn(owner):
            return await _listed(bus, row)

    shown: list[msgspec.Raw] = []
    for start in range(0, len(rows), _CONCURRENCY):
        shown += await asyncio.gather(*map(listed, rows[start : start + _CONCURRENCY]))
    return json_response({"jobs": shown, "next": str(rows[-1].seq) if rows and older else None})


class _Row(NamedTuple):
    """One job of a list: its birth, without the text and the params, or the error with which it is shown."""

    seq: int
    tenant: str
    id: str
    birth: wire.Birth | Exception

    @classmethod
    def of(cls, stored: Stored) -> "_Row":
        """The row of a stored birth."""
        try:
            birth = wire.decode(wire.Birth, stored.message.data)
            slim = msgspec.structs.replace(birth.job, input="", script=[], params={})
            return cls(stored.seq, *parse_birth(stored.message.subject), msgspec.structs.replace(birth, job=slim))
        except BusError as error:
            return cls(stored.seq, *parse_birth(stored.message.subject), error)


async def _listed(bus: Bus, row: _Row) -> msgspec.Raw:
    """One job of a list as JSON. A job that cannot be shown has an `error` in its place: it must not fail the list.

    Raises Unreachable.
    """
    shown: dict[str, Any] = {"id": row.id}
    try:
        return msgspec.Raw(wire.encode(await _view(bus, row, shown)))
    except Unreachable:
        raise
    except BusError as error:
        shown["error"] = {"code": getattr(error, "code", "unreadable"), "message": str(error)}
    except Exception as error:
        log.exception("job.view_failed", job=shown["id"])
        shown["error"] = {"code": "unreadable", "message": f"{type(error).__name__}: {error}"}
    return msgspec.Raw(wire.encode(shown))


async def _view(bus: Bus, row: _Row, known: dict[str, Any]) -> ShownJob:
    """The job of this row, by cheaper reads than `GET /v1/jobs/{id}` makes.

    Adds to `known` the fields that stand in its place if the rest cannot be shown.
    """
    if isinstance(row.birth, Exception):
        raise row.birth
    birth, key = row.birth, bus.subjects.job_key(row.tenant, row.id)
    known["accepted_at"] = when(birth.accepted_at)
    tail, lease = await asyncio.gather(bus.logs.tail(key), bus.logs.lease(key))
    found = Status(derive(tail, lease[1] if lease else None), row.seq, birth, lease[1] if lease else None, tail)
    known["state"] = found.state
    return await view(bus, found)
