"""OpenAI's envelope for errors."""

from typing import Final

import msgspec
from aiohttp import web

from gateway.http.problems import Problem

#: OpenAI's types of errors by HTTP status; other statuses have a type by their class, 4xx or 5xx.
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Error(msgspec.Struct, frozen=True):
    """An error. All four members are always present, as strict clients require."""

    message: str
    type: str
    #: Dotted name of the wrong field; null if the error is not about a field.
    param: str | None
    code: str


class ErrorResponse(msgspec.Struct, frozen=True):
    """The body of a response to a failed request."""

    error: Error


def error_of(problem: Problem) -> Error:
    """`problem` in OpenAI's terms."""
    kind = _TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    return Error(problem.detail, kind, problem.path or None, problem.code)


def refuse(problem: Problem) -> web.Response:
    """A response in OpenAI's envelope. An invalid request has status 400, never 422.

    OpenAI's clients retry by status, 409 and every 5xx included; where a retry cannot help, `X-Should-Retry: false`
    stops them.
    """
    headers = dict(problem.headers)
    if not problem.retryable and (problem.status == 409 or problem.status > 500):
        headers["X-Should-Retry"] = "false"
    return web.Response(
        status=400 if problem.status == 422 else problem.status,
        body=msgspec.json.encode(ErrorResponse(error_of(problem))),
        content_type="application/json",
        headers=headers,
    )
