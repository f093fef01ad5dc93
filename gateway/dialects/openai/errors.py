"""OpenAI's envelope for errors."""

import msgspec
from aiohttp import web

from gateway.http.problems import Problem

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Told(msgspec.Struct, frozen=True):
    """All four members, as strict clients want them."""

    message: str
    type: str
    #: Dotted name of the field that is wrong.
    param: str | None
    code: str


class Refusal(msgspec.Struct, frozen=True):
    """The body of an error."""

    error: Told


def told(problem: Problem) -> Told:
    kind = _KINDS.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    return Told(problem.detail, kind, problem.path or None, problem.code)


def refuse(problem: Problem) -> web.Response:
    """`{"error": {message, type, param, code}}`; what is wrong with a request is 400 there, never 422.

    OpenAI's clients try again by status, 409 and every 5xx included: where that cannot help they are told so.
    """
    headers = dict(problem.headers)
    if not problem.retryable and (problem.status == 409 or problem.status > 500):
        headers["X-Should-Retry"] = "false"
    return web.Response(
        status=400 if problem.status == 422 else problem.status,
        body=msgspec.json.encode(Refusal(told(problem))),
        content_type="application/json",
        headers=headers,
    )
