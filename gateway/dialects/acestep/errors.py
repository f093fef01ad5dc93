"""ACE-Step's envelope for errors: `{"detail": "…"}`."""

from typing import Final

import msgspec
from aiohttp import web

from gateway.dialects.acestep.fields import FIELD_OF_PARAM
from gateway.http.problems import Problem

#: ACE-Step's names of fields at the beginning of error texts, by ours.
_FIELDS: Final = {"input": "prompt", **{f"params.{param}": field for param, field in FIELD_OF_PARAM.items()}}


class ErrorResponse(msgspec.Struct, frozen=True):
    """The body of a response to a failed request."""

    detail: str


def refuse(problem: Problem) -> web.Response:
    """A response in ACE-Step's envelope. An invalid request has status 400, never 422."""
    detail = problem.detail
    for ours, theirs in _FIELDS.items():
        if detail.startswith(f"{ours}: "):
            detail = theirs + detail.removeprefix(ours)
    return web.Response(
        status=400 if problem.status == 422 else problem.status,
        body=msgspec.json.encode(ErrorResponse(detail)),
        content_type="application/json",
        headers=problem.headers,
    )
