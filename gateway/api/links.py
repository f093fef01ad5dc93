"""Links to a job's audio and events that need no header: for `<audio src>`, `EventSource`, or another person."""

import time
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from gateway.access.authenticator import LINK_PARAMETER
from gateway.access.caller import caller
from gateway.access.links import SCOPES, Grant, Scope
from gateway.api.answers import ID
from gateway.http.bodies import Body
from gateway.http.headers import JOB_HEADER
from gateway.http.operation import Answer, operation
from gateway.http.responses import json_response
from gateway.http.services import AUTHENTICATOR, JOBS, job_key

_MAX_S: Final = 7 * 24 * 3600
#: The paths that each scope opens, by name.
_PATHS: Final[dict[Scope, dict[str, str]]] = {
    "audio": {"audio": "/v1/jobs/{}/audio", "file": "/output/{}.wav"},
    "events": {"events": "/v1/jobs/{}/events", "marks": "/v1/jobs/{}/marks"},
}


class LinkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scopes of the links, and the seconds until they end."""

    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=len(SCOPES))] = SCOPES
    expires_in_s: Annotated[int, Meta(ge=1, le=_MAX_S)] = 3600


class MadeLinks(msgspec.Struct, frozen=True):
    """The links, by name, and the token in all of them; "" if this gateway needs no key."""

    links: dict[str, str]
    token: str
    scopes: list[Scope]
    expires_at: datetime


_body: Final = Body(LinkRequest)


@operation(
    "Make links to a job's audio and events that need no key.",
    text="They are signed with the caller's API key: revoking the key ends them at once.",
    body=LinkRequest,
    body_required=False,
    parameters=(ID,),
    answers={200: Answer("The links, relative to this gateway.", MadeLinks)},
)
async def create(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{id}/links`. Raises NotFound for an unknown job; Forbidden for the caller of a JSON Web Token."""
    key = job_key(request)
    data = await request.read()
    body = _body.read(data) if data else LinkRequest()
    await request.app[JOBS].find(key)
    scopes = list(dict.fromkeys(body.scopes))
    ends_at = int(time.time()) + body.expires_in_s
    token = request.app[AUTHENTICATOR].links.token(caller(request), Grant(key.job, tuple(scopes), ends_at))
    query = f"?{LINK_PARAMETER}={token}" if token else ""
    paths = {name: path for scope in scopes for name, path in _PATHS[scope].items()}
    links = {name: path.format(key.job) + query for name, path in paths.items()}
    made = MadeLinks(links, token, scopes, datetime.fromtimestamp(ends_at, UTC))
    return json_response(made, headers={JOB_HEADER: key.job, "Cache-Control": "no-store"})
