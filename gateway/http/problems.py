"""Errors of requests as problems (RFC 9457): the only module that gives an error of the bus an HTTP status.

The way of an error, in three steps:

    raise       a handler raises an error of `bus.errors`, or a `GatewayError` with a status of its own
    describe    `describe` makes it a `Problem`: status, code, detail, field at fault, headers
    refuse      the API that the request came by writes it: `Dialect.refuse` over HTTP (`respond` for the native API),
                `gateway.nats.errors` over NATS
"""

from http import HTTPStatus
from typing import ClassVar, Final

import msgspec
from aiohttp import web

from bus import errors
from bus.params import short
from gateway.http.rate_limit_headers import refused_headers


class GatewayError(Exception):
    """An error that only an HTTP API has. Each kind states its own status, so an API defines its own kinds."""

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    retryable: ClassVar[bool] = False
    path: str = ""


class BlockNotYet(GatewayError):
    """The block has not been made yet; it may still come."""

    status = HTTPStatus.NOT_FOUND
    code = "block_not_yet"
    retryable = True
    path = "n"


class NoSuchBlock(GatewayError):
    """The job has ended and never had that block."""

    status = HTTPStatus.NOT_FOUND
    code = "no_such_block"
    path = "n"


class RangeRefused(GatewayError):
    """No byte of the range exists."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    code = "range_not_satisfiable"
    path = "Range"

    def __init__(self, wanted: str, size: int) -> None:
        """`wanted`: the header's value. `size`: bytes of the body."""
        super().__init__(f"Range: {short(wanted)!r} has no byte within {size}")
        self.size = size


#: The status of each error of the bus.
STATUS: Final[dict[type[Exception], HTTPStatus]] = {
    errors.Malformed: HTTPStatus.BAD_REQUEST,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.Gone: HTTPStatus.GONE,
    errors.VoiceGone: HTTPStatus.GONE,
    errors.TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NoWorker: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Expired: HTTPStatus.GATEWAY_TIMEOUT,
    # The request is valid, but the state of its job does not permit it.
    errors.Cancelled: HTTPStatus.CONFLICT,
    errors.EngineFailed: HTTPStatus.BAD_GATEWAY,
    errors.TextLost: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.LogDamaged: HTTPStatus.BAD_GATEWAY,
    errors.OutOfDeviceMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Interrupted: HTTPStatus.BAD_GATEWAY,
    # Not even a lease or an end fits: `Full` is how the server says so.
    errors.Full: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NoResponders: HTTPStatus.SERVICE_UNAVAILABLE,
}
#: `Retry-After` by status, in seconds: a full store empties more slowly than a worker starts.
_RETRY_AFTER_S: Final = {429: 1, 503: 2, 507: 30}
_HTTP_CODES: Final = {404: "no_such_path", 405: "method_not_allowed", 413: "too_large"}


class LimitReached(msgspec.Struct, frozen=True, kw_only=True):
    """The limit of a caller that a request was refused for."""

    #: `requests_per_s`, `concurrent_jobs`, `audio_s_per_day`, or a pool of the gateway.
    limit: str
    #: Whose limit it is: `key`, `tenant` or `address`.
    scope: str
    #: The limit's value, and the part of it that is left; in the limit's unit.
    allowed: float
    left: float
    #: Seconds until the request may succeed.
    retry_after_s: float


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as any API can write it."""

    #: HTTP status.
    status: int
    #: Stable name of the kind of error.
    code: str
    #: Text that names field, limit and value.
    detail: str
    #: Dotted name of the field at fault; "" if none is.
    path: str = ""
    #: Whether the same request may succeed later.
    retryable: bool = False
    #: Headers of an HTTP response.
    headers: dict[str, str] = {}
    #: The limit that was reached, with code `too_many`.
    limit_reached: LimitReached | None = None

    @property
    def title(self) -> str:
        """The phrase of the status."""
        return HTTPStatus(self.status).phrase


#: The answer to an error that is a fault of ours.
INTERNAL: Final = Problem(status=500, code="internal", detail="an error of ours; the log has it")
UNKNOWN_EXPECTATION: Final = Problem(
    status=417, code="unknown_expectation", detail="Expect: only 100-continue is understood", path="Expect"
)


class ProblemBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The native API's error, RFC 9457. `code` is stable; `path` names the field at fault, if one is."""

    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    path: str = ""
    #: The limit (`requests_per_s`, `concurrent_jobs`, `audio_s_per_day`, or a pool, as `buffer_bytes`) and its scope
    #: (`key`, `tenant`, `address`), if the code is `too_many`.
    limit: str = ""
    scope: str = ""
    #: The limit's value, the part of it that is left, and the seconds until the request may succeed.
    allowed: float | None = None
    left: float | None = None
    retry_after_s: float | None = None

    @classmethod
    def of(cls, problem: Problem) -> "ProblemBody":
        """The body that describes `problem`."""
        reached = problem.limit_reached
        return cls(
            title=problem.title,
            status=problem.status,
            detail=problem.detail,
            code=problem.code,
            retryable=problem.retryable,
            path=problem.path,
            **({} if reached is None else msgspec.structs.asdict(reached)),
        )


def is_expected(error: BaseException) -> bool:
    """Whether `error` is one that requests are refused with; any other is a fault of ours."""
    return _status(error) is not None


def _status(error: BaseException) -> HTTPStatus | None:
    if isinstance(error, GatewayError):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)


def describe(error: Exception) -> Problem:
    """`error` as a problem. An error that is not expected is `INTERNAL`: its text is for the log alone."""
    status = _status(error)
    if status is None:
        return INTERNAL
    code, retryable = _code(error)
    return Problem(
        status=status,
        code=code,
        detail=str(error),
        path=getattr(error, "path", ""),
        retryable=retryable,
        headers=_headers(error, status),
        limit_reached=_limit_reached(error) if isinstance(error, errors.TooMany) else None,
    )


def _code(error: Exception) -> tuple[str, bool]:
    """The code of an expected error, and whether the request may be retried."""
    if isinstance(error, errors.JobError | GatewayError):
        return error.code, error.retryable
    if isinstance(error, errors.Full):
        return errors.StorageFull.code, True
    if isinstance(error, errors.Unreachable):
        return "bus_unreachable", True
    return "malformed", False


def _headers(error: Exception, status: HTTPStatus) -> dict[str, str]:
    headers = {"Content-Range": f"bytes */{error.size}"} if isinstance(error, RangeRefused) else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="antiphon"'
    if status in _RETRY_AFTER_S:
        headers["Retry-After"] = str(_RETRY_AFTER_S[status])
    if isinstance(error, errors.TooMany):
        headers |= refused_headers(error)
    return headers


def _limit_reached(error: errors.TooMany) -> LimitReached:
    return LimitReached(
        limit=error.limit,
        scope=error.scope,
        allowed=error.allowed,
        left=error.left,
        retry_after_s=round(error.retry_after_s, 3),
    )


def describe_http(error: Exception, request: web.Request) -> Problem:
    """As `describe`, of aiohttp's exceptions too, whose own texts may quote the request."""
    if isinstance(error, web.RequestPayloadError):
        detail = "the body cannot be read: its length, its chunks or its compression are not what HTTP/1.1 has"
        return Problem(status=400, code="malformed", detail=detail)
    if not isinstance(error, web.HTTPException):
        return describe(error)
    if isinstance(error, web.HTTPExpectationFailed):
        return UNKNOWN_EXPECTATION
    where = f"{request.method} {short(request.path)}"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        detail = f"the body is larger than {request.client_max_size} bytes"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        detail = f"{where}: allowed are {', '.join(sorted(error.allowed_methods))}"
    elif isinstance(error, web.HTTPNotFound):
        detail = f"{where}: no such path; /docs lists all paths"
    else:
        detail = f"{where}: {error.reason}"
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    code = _HTTP_CODES.get(error.status, f"http_{error.status}")
    return Problem(status=error.status, code=code, detail=detail, headers=headers)


def respond(problem: Problem) -> web.Response:
    """The native API's response: RFC 9457."""
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(ProblemBody.of(problem)),
        content_type="application/problem+json",
        headers=problem.headers,
    )
