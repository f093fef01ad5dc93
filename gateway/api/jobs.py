"""The native API of jobs: accept, show, list, cancel."""

import asyncio
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import BusError, Invalid
from bus.jobs import lookup as find
from bus.jobs.status import Status, derive
from bus.params import short
from bus.transport.jetstream import Stored
from gateway.access.caller import caller
from gateway.api.answers import ID, AcceptedJob, EndedJob, JobList, ShownJob
from gateway.api.job_fields import KEY, AskedJob, to_job
from gateway.http.bodies import Body
from gateway.http.gateway import GATEWAY, JOB, Gateway, json_answer
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.problems import JOB_HEADER
from gateway.jobs.queue_position import known_place
from gateway.jobs.view import accepted, view, when, with_place
from gateway.webhooks.delivery import accept, with_webhook

_API: Final = "jobs"
_MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 20
#: Jobs of a list that are looked at together.
_AT_ONCE: Final = 32


_body: Final = Body(AskedJob)


@operation(
    "Accept a job.",
    text="An `Idempotency-Key` names the job: the same key and body again answer the same job.",
    body=AskedJob,
    parameters=(KEY,),
    answers={202: Answer("It is accepted, and durable.", AcceptedJob), 200: Answer("It was there.", AcceptedJob)},
)
async def create(request: web.Request) -> web.Response:
    """`POST /v1/jobs`. An `Idempotency-Key` names the job instead of a random id."""
    data = await request.read()
    asked = _body.read(data)
    return await _accept(request, asked, asked.id, len(data))


@operation(
    "Accept a job under an id of the caller's.",
    body=AskedJob,
    parameters=(ID,),
    answers={202: Answer("It is accepted, and durable.", AcceptedJob), 200: Answer("It was there.", AcceptedJob)},
)
async def put(request: web.Request) -> web.Response:
    """`PUT /v1/jobs/{id}`."""
    job_id = request.match_info["id"]
    data = await request.read()
    asked = _body.read(data)
    if asked.id and asked.id != job_id:
        raise Invalid(f"id: the body says {short(asked.id)!r}, the path {short(job_id)!r}", "id")
    return await _accept(request, asked, job_id, len(data))


async def _accept(request: web.Request, asked: AskedJob, job_id: str, size_bytes: int) -> web.Response:
    gateway = request.app[GATEWAY]
    job = to_job(request, _API, asked, input=asked.input, model=asked.model, voice=asked.voice, job_id=job_id)
    job = gateway.admission.complete(job, streams=False, size_hint_bytes=size_bytes)
    request[JOB] = job.id
    name = gateway.bus.subjects.job_key(job.tenant, job.id)
    done = await accept(gateway, name, with_webhook(gateway, job, asked.webhook))
    headers = {"Location": f"/v1/jobs/{job.id}", JOB_HEADER: job.id}
    if done.is_new:
        return json_answer(accepted(done.birth, "queued"), 202, headers)
    found = await gateway.deadlines.look(name)
    return json_answer(accepted(done.birth, found.state), 200, headers)


@operation("Show a job.", parameters=(ID,), answers={200: Answer("All that is known of it.", ShownJob)})
async def show(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}`."""
    gateway = request.app[GATEWAY]
    found = await gateway.deadlines.look(gateway.name(request))
    shown = await view(gateway.bus, found)
    if found.state == "queued":
        with_place(shown, await known_place(gateway.bus, gateway.starts, found.birth))
    return json_answer(shown, headers={JOB_HEADER: found.birth.job.id})


@operation(
    "Cancel a job.", parameters=(ID,), answers={200: Answer("How it ended, which may have been otherwise.", EndedJob)}
)
async def cancel(request: web.Request) -> web.Response:
    """`DELETE /v1/jobs/{id}`: answers how the job ended, which may have been in another way before."""
    gateway = request.app[GATEWAY]
    name = gateway.name(request)
    found = await gateway.deadlines.look(name)
    ended = found.state
    if not found.is_ended:
        ended = await gateway.bus.logs.end(name, "cancelled", "cancelled by its owner")
        gateway.ended(name)
    return json_answer({"id": name.job, "state": ended}, headers={JOB_HEADER: name.job})


@operation(
    "List the caller's jobs, newest first.",
    parameters=(
        Parameter("limit", Annotated[int, Meta(ge=1, le=_MAX_LIMIT)], "Of jobs."),
        Parameter("before", Annotated[int, Meta(ge=1, le=2**63 - 1)], "`next` of the page before."),
    ),
    answers={200: Answer("A page.", JobList)},
)
async def index(request: web.Request) -> web.Response:
    """`GET /v1/jobs?limit=&before=`: newest first; `next` is the `before` of the next page."""
    gateway = request.app[GATEWAY]
    limit = whole(request, "limit", 1, _MAX_LIMIT) or _DEFAULT_LIMIT
    births, older = await find.births(
        gateway.bus, caller(request).tenant, limit, whole(request, "before", 1, 2**63 - 1)
    )
    shown: list[dict[str, Any]] = []
    for start in range(0, len(births), _AT_ONCE):
        some = births[start : start + _AT_ONCE]
        shown += await asyncio.gather(*(_listed(gateway, birth) for birth in some))
    return json_answer({"jobs": shown, "next": str(births[-1].seq) if births and older else None})


async def _listed(gateway: Gateway, stored: Stored) -> dict[str, Any]:
    """One line of a list: no question is asked that a single job's page would not ask more thoroughly."""
    bus = gateway.bus
    birth, name = wire.decode(wire.Birth, stored.message.data), find.job_of(bus.subjects, stored)
    tail, lease = await asyncio.gather(bus.logs.tail(name), bus.logs.lease(name))
    found = Status(derive(tail, lease[1] if lease else None), stored.seq, birth, lease[1] if lease else None, tail)
    try:
        return await view(bus, found)
    except BusError as error:
        shown = {"id": name.job, "state": found.state, "accepted_at": when(birth.accepted_at)}
        return {**shown, "error": {"code": getattr(error, "code", "unreadable"), "message": str(error)}}


def whole(request: web.Request, name: str, least: int, most: int) -> int | None:
    """A whole number of the query; None if it is not there. Raises Invalid."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise Invalid(f"{name}: must be a whole number from {least} to {most}, not {short(text)!r}", name)
    return int(text)
