"""Links to a job's audio and events that need no header: for `<audio src>`, `EventSource`, or another person."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus.access.link_keys import MAX_LINK_S
from gateway.access.authenticator import LINK_PARAMETER
from gateway.access.caller import caller
from gateway.access.links import SCOPES, Scope
from gateway.api.answers import ID
from gateway.http.bodies import Body
from gateway.http.headers import JOB_HEADER
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.responses import json_response
from gateway.http.services import AUTHENTICATOR, JOBS, job_key

#: The paths that each scope opens, by name.
_PATHS: Final[dict[Scope, dict[str, str]]] = {
    "audio": {"audio": "/v1/jobs/{}/audio", "file": "/output/{}.wav"},
    "events": {"events": "/v1/jobs/{}/events", "marks": "/v1/jobs/{}/marks"},
}


LinkId = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]


class LinkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scopes of the links, and the seconds until they end."""

    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=len(SCOPES))] = SCOPES
    expires_in_s: Annotated[int, Meta(ge=1, le=MAX_LINK_S)] = 3600


class MadeLinks(msgspec.Struct, frozen=True):
    """The links, by name, the token in all of them, and the id by which they are revoked together."""

    id: str
    links: dict[str, str]
    token: str
    scopes: list[Scope]
    expires_at: datetime


_body: Final = Body(LinkRequest)


@operation(
    "Make links to a job's audio and events that need no key.",
    text="They act for the caller's tenant, under the limits of its key. Revoking that key ends them, or `DELETE`.",
    body=LinkRequest,
    body_required=False,
    parameters=(ID,),
    answers={200: Answer("The links, relative to this gateway.", MadeLinks)},
)
async def create(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{id}/links`. Raises NotFound for an unknown job; Unreachable."""
    key = job_key(request)
    data = await request.read()
    body = _body.read(data) if data else LinkRequest()
    jobs, owner = request.app[JOBS], caller(request)
    found = await jobs.find(key)
    scopes = list(dict.fromkeys(body.scopes))
    ends_at = int(jobs.bus.clock.now()) + body.expires_in_s
    link, token = await request.app[AUTHENTICATOR].links.make(owner, key, found.birth.queue_seq, scopes, ends_at)
    paths = {name: path for scope in scopes for name, path in _PATHS[scope].items()}
    links = {name: f"{path.format(key.job)}?{LINK_PARAMETER}={token}" for name, path in paths.items()}
    made = MadeLinks(link, links, token, scopes, datetime.fromtimestamp(ends_at, UTC))
    return json_response(made, headers={JOB_HEADER: key.job, "Cache-Control": "no-store"})


@operation(
    "End a link before its time.",
    parameters=(ID, Parameter("link", LinkId, "The `id` of the links.", "path")),
    answers={204: Answer("It opens nothing any more.")},
)
async def revoke(request: web.Request) -> web.Response:
    """`DELETE /v1/jobs/{id}/links/{link}`; idempotent. Raises NotFound for an unknown job; TooMany, Unreachable."""
    key = job_key(request)
    await request.app[JOBS].find(key)
    await request.app[AUTHENTICATOR].links.revoke(key, request.match_info["link"])
    return web.Response(status=HTTPStatus.NO_CONTENT, headers={JOB_HEADER: key.job})
