"""ElevenLabs' envelopes for errors: `{"detail": {status, message}}`, and FastAPI's list for a field that is wrong."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from gateway.http.problems import GatewayError, Problem


class TextTooLong(GatewayError):
    """The text is longer than the model takes. Only ElevenLabs has an error of its own for it."""

    status = HTTPStatus.BAD_REQUEST
    code = "max_character_limit_exceeded"
    path = "input"


class Named(msgspec.Struct, frozen=True):
    status: str
    message: str


class Field(msgspec.Struct, frozen=True):
    """What is wrong with one field."""

    type: str
    #: Where it is: `body`, `query`, `path` or `header`, then its name, part by part.
    loc: list[str]
    msg: str


class Refusal(msgspec.Struct, frozen=True):
    """The body of an error; a list is that of a 422."""

    detail: Named | list[Field]


#: Our load, which a client answers by trying again later; a limit of the key's is another name.
_BUSY: Final = frozenset({"no_worker", "storage_full", "out_of_memory"})
_BUSY_RETRY_AFTER_S: Final = 2
#: Limits of the caller's, each answered in another way: wait for one of your own to end, ask less often, ask tomorrow.
LIMITS: Final = {
    "concurrent_jobs": (429, "too_many_concurrent_requests"),
    "requests_per_s": (429, "rate_limit_exceeded"),
    "audio_s_per_day": (401, "quota_exceeded"),
}
_NAMES: Final = {
    "unknown_model": "model_not_found",
    "internal": "internal_server_error",
    "unauthorized": "invalid_api_key",
    "forbidden": "missing_permissions",
}
#: Where a field comes from that is not the body's.
_PLACES: Final = {
    "output_format": "query",
    "optimize_streaming_latency": "query",
    "page_size": "query",
    "next_page_token": "query",
    "Idempotency-Key": "header",
}


def refusal(fields: Mapping[str, str]) -> Callable[[Problem], web.Response]:
    """A dialect's `refuse`. `fields`: their name of a field by ours, as a path."""

    def refuse(problem: Problem) -> web.Response:
        status, detail = _told(problem, fields)
        headers = dict(problem.headers)
        reached = problem.limit_reached
        if reached is not None and reached.limit == "concurrent_jobs":
            headers |= concurrency(reached.allowed - reached.left, reached.allowed)
        if status == 429:
            headers.setdefault("Retry-After", str(_BUSY_RETRY_AFTER_S))
        return web.Response(
            status=status,
            body=msgspec.json.encode(Refusal(detail)),
            content_type="application/json",
            headers=headers,
        )

    return refuse


def concurrency(now: float, most: float) -> dict[str, str]:
    """Their headers of it."""
    return {"current-concurrent-requests": f"{now:g}", "maximum-concurrent-requests": f"{most:g}"}


def _told(problem: Problem, fields: Mapping[str, str]) -> tuple[int, Named | list[Field]]:
    if problem.code == "malformed":
        return 422, [Field("json_invalid", ["body"], problem.detail)]
    if problem.path == "voice" and problem.status == 422:
        return 404, Named("voice_not_found", problem.detail)
    if problem.status == 422:
        return 422, [_field(problem, fields)]
    if problem.limit_reached is not None:
        status, name = LIMITS[problem.limit_reached.limit]
        return status, Named(name, problem.detail)
    if problem.code in _BUSY:
        return 429, Named("system_busy", problem.detail)
    return problem.status, Named(_NAMES.get(problem.code, problem.code), problem.detail)


def _field(problem: Problem, fields: Mapping[str, str]) -> Field:
    path = fields.get(problem.path, problem.path)
    message = problem.detail.removeprefix(f"{problem.path}: ")
    place = _PLACES.get(path, "body")
    kind = "missing" if message == "is required" else "value_error"
    return Field(kind, [place, *path.split(".")] if path else [place], message)
