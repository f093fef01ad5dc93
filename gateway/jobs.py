"""The native API of jobs: accept, show, list, cancel."""

import asyncio
import uuid
from datetime import datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.door import keyed_id
from bus.errors import BusError, Invalid
from bus.jetstream import Stored
from bus.params import short
from bus.states import Status, derive
from gateway import find
from gateway.bodies import Body
from gateway.problems import JOB_HEADER
from gateway.queue import place
from gateway.state import GATEWAY, JOB, TENANT, Gateway, json_answer
from gateway.view import accepted, view, when, with_place

_DOOR: Final = "jobs"
_MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 20
#: Jobs of a list that are looked at together.
_AT_ONCE: Final = 32
_MAX_KEY_CHARS: Final = 255


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `wire.Job` less what is not the caller's to say."""

    input: str
    id: str = ""
    model: str = ""
    version: str = ""
    voice: str = ""
    params: dict[str, Any] = {}
    seed: int = 0
    lane: str = ""
    expires_at: datetime | None = None
    first_audio_deadline_s: float | None = None
    run_on: bool | None = None
    linger_s: float = 0.0


_body: Final = Body(Asked)


async def create(request: web.Request) -> web.Response:
    """`POST /v1/jobs`. An `Idempotency-Key` names the job instead of a random id."""
    data = await request.read()
    asked = _body.read(data)
    job_id = asked.id or idempotent_id(request, _DOOR) or uuid.uuid4().hex
    return await _accept(request, asked, job_id, len(data))


async def put(request: web.Request) -> web.Response:
    """`PUT /v1/jobs/{id}`."""
    job_id = request.match_info["id"]
    data = await request.read()
    asked = _body.read(data)
    if asked.id and asked.id != job_id:
        raise Invalid(f"id: the body says {short(asked.id)!r}, the path {short(job_id)!r}", "id")
    return await _accept(request, asked, job_id, len(data))


def idempotent_id(request: web.Request, door: str) -> str:
    """The id that the header `Idempotency-Key` stands for at this door, or ""."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not 0 < len(key) <= _MAX_KEY_CHARS:
        raise Invalid(
            f"Idempotency-Key: has {len(key)} characters, allowed are 1 to {_MAX_KEY_CHARS}", "Idempotency-Key"
        )
    return keyed_id(door, key)


async def _accept(request: web.Request, asked: Asked, job_id: str, size_bytes: int) -> web.Response:
    gateway = request.app[GATEWAY]
    fields = msgspec.structs.asdict(asked) | {"id": job_id}
    job = wire.Job(**fields, tenant=TENANT, client=wire.Client(door=_DOOR, traceparent=traceparent(request)))
    job = gateway.admission.complete(job, streams=False, size_hint_bytes=size_bytes)
    request[JOB] = job.id
    name = gateway.bus.subjects.log(TENANT, job.id)
    done = await gateway.accept(name, job)
    headers = {"Location": f"/v1/jobs/{job.id}", JOB_HEADER: job.id}
    if done.is_new:
        return json_answer(accepted(done.birth, "queued"), 202, headers)
    found = await gateway.deadlines.look(name)
    return json_answer(accepted(done.birth, found.state), 200, headers)


def traceparent(request: web.Request) -> str:
    """W3C trace context, if it can be one."""
    text = request.headers.get("traceparent", "")
    return text if len(text) == 55 and text.isascii() else ""


async def show(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}`."""
    gateway = request.app[GATEWAY]
    found = await gateway.deadlines.look(gateway.name(request))
    shown = await view(gateway.bus, found)
    if found.state == "queued":
        with_place(shown, await place(gateway.bus, gateway.starts, found.birth))
    return json_answer(shown, headers={JOB_HEADER: found.birth.job.id})


async def cancel(request: web.Request) -> web.Response:
    """`DELETE /v1/jobs/{id}`: answers how the job ended, which may have been in another way before."""
    gateway = request.app[GATEWAY]
    name = gateway.name(request)
    found = await gateway.deadlines.look(name)
    ended = found.state
    if not found.is_ended:
        ended = await gateway.bus.logs.end(name, "cancelled", "cancelled by its owner")
        gateway.deadlines.forget(name)
    return json_answer({"id": name.job, "state": ended}, headers={JOB_HEADER: name.job})


async def index(request: web.Request) -> web.Response:
    """`GET /v1/jobs?limit=&before=`: newest first; `next` is the `before` of the next page."""
    gateway = request.app[GATEWAY]
    limit = whole(request, "limit", 1, _MAX_LIMIT) or _DEFAULT_LIMIT
    births, older = await find.births(gateway.bus, TENANT, limit, whole(request, "before", 1, 2**63 - 1))
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
