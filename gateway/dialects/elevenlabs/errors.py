"""ElevenLabs' envelopes for errors: `{"detail": {status, message}}`, and FastAPI's list for invalid fields."""

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

    def __init__(self, field: str, num_chars: int, max_chars: int, model: str) -> None:
        super().__init__(
            f"This request's {field} has {num_chars} characters and exceeds the character limit of {max_chars} "
            f"characters of the model {model!r}."
        )


class Detail(msgspec.Struct, frozen=True):
    """An error by its name."""

    status: str
    message: str


class FieldError(msgspec.Struct, frozen=True):
    """An invalid field."""

    type: str
    #: Where it is: `body`, `query`, `path` or `header`, then its name, part by part.
    loc: list[str]
    msg: str


class ErrorResponse(msgspec.Struct, frozen=True):
    """The body of a response to a failed request; a list with status 422."""

    detail: Detail | list[FieldError]


#: Errors that mean load on our side, which clients answer with a retry. A limit of the key's has another name.
_BUSY: Final = frozenset({"no_worker", "storage_full", "out_of_memory", "overloaded"})
_BUSY_RETRY_AFTER_S: Final = 2
#: The limit of the contexts of one socket.
CONTEXTS: Final = "contexts"
#: Status and name for each limit of the caller's. Clients react to the name: wait for an own request to end, slow down,
#: or give up for the day.
LIMITS: Final = {
    "concurrent_jobs": (429, "too_many_concurrent_requests"),
    "requests_per_s": (429, "rate_limit_exceeded"),
    "audio_s_per_day": (401, "quota_exceeded"),
    CONTEXTS: (429, "max_active_conversations"),
}
#: The same for a share of one of the gateway's pools.
OF_POOL: Final = (429, "too_many_concurrent_requests")
_NAMES: Final = {
    "unknown_model": "model_not_found",
    "internal": "internal_server_error",
    "unauthorized": "invalid_api_key",
    "forbidden": "missing_permissions",
}
#: Places of the fields that are not in the body.
_PLACES: Final = {
    "output_format": "query",
    "optimize_streaming_latency": "query",
    "page_size": "query",
    "next_page_token": "query",
    "Idempotency-Key": "header",
}


def refuser(fields: Mapping[str, str]) -> Callable[[Problem], web.Response]:
    """A dialect's `refuse`. `fields`: ElevenLabs' name of a field, as a dotted path, by ours."""

    def refuse(problem: Problem) -> web.Response:
        """A response in ElevenLabs' envelope."""
        status, detail = _detail(problem, fields)
        headers = dict(problem.headers)
        reached = problem.limit_reached
        if reached is not None and reached.limit == "concurrent_jobs":
            headers |= concurrency_headers(reached.allowed - reached.left, reached.allowed)
        if status == 429:
            headers.setdefault("Retry-After", str(_BUSY_RETRY_AFTER_S))
        return web.Response(
            status=status,
            body=msgspec.json.encode(ErrorResponse(detail)),
            content_type="application/json",
            headers=headers,
        )

    return refuse


def concurrency_headers(num_running: float, max_running: float) -> dict[str, str]:
    """ElevenLabs' headers about the caller's concurrent requests."""
    return {"current-concurrent-requests": f"{num_running:g}", "maximum-concurrent-requests": f"{max_running:g}"}


def _detail(problem: Problem, fields: Mapping[str, str]) -> tuple[int, Detail | list[FieldError]]:
    """ElevenLabs' status and body for a problem."""
    if problem.code == "malformed":
        return 422, [FieldError("json_invalid", ["body"], problem.detail)]
    if problem.path == "voice" and problem.status == 422:
        return 404, Detail("voice_not_found", problem.detail)
    if problem.status == 422:
        return 422, [_field_error(problem, fields)]
    if problem.limit_reached is not None:
        status, name = LIMITS.get(problem.limit_reached.limit, OF_POOL)
        return status, Detail(name, problem.detail)
    if problem.code in _BUSY:
        return 429, Detail("system_busy", problem.detail)
    return problem.status, Detail(_NAMES.get(problem.code, problem.code), problem.detail)


def _field_error(problem: Problem, fields: Mapping[str, str]) -> FieldError:
    path = fields.get(problem.path, problem.path)
    message = problem.detail.removeprefix(f"{problem.path}: ")
    place = _PLACES.get(path, "body")
    kind = "missing" if message == "is required" else "value_error"
    return FieldError(kind, [place, *path.split(".")] if path else [place], message)
