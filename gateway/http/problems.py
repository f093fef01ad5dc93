"""Errors to RFC 9457 problem+json. The only module that pairs an error of the bus with an HTTP status."""

from http import HTTPStatus
from typing import ClassVar, Final

import msgspec
from aiohttp import web

from bus import errors
from bus.params import short
from gateway.http.rate_limit_headers import headers_of as limit_headers

JOB_HEADER: Final = "Antiphon-Job"
REQUEST_ID: Final = "X-Request-Id"


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

    def __init__(self, asked: str, size: int) -> None:
        super().__init__(f"Range: {short(asked)!r} has no byte within {size}")
        self.size = size


#: The status of each error of the bus.
STATUS: Final[dict[type[Exception], HTTPStatus]] = {
    errors.Malformed: HTTPStatus.BAD_REQUEST,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.Gone: HTTPStatus.GONE,
    errors.TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NoWorker: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Expired: HTTPStatus.GATEWAY_TIMEOUT,
    # The request is fine, the state of the job it speaks of is not.
    errors.Cancelled: HTTPStatus.CONFLICT,
    errors.EngineFailed: HTTPStatus.BAD_GATEWAY,
    errors.OutOfDeviceMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Interrupted: HTTPStatus.BAD_GATEWAY,
    errors.Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NoResponders: HTTPStatus.SERVICE_UNAVAILABLE,
}
#: Seconds; a full store empties more slowly than a worker starts.
_RETRY_AFTER_S: Final = {429: 1, 503: 2, 507: 30}
_HTTP_CODES: Final = {404: "no_such_path", 405: "method_not_allowed", 413: "too_large"}


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """The limit that a refusal is about: of the caller's, not of the system."""

    #: `requests_per_s`, `concurrent_jobs` or `audio_s_per_day`.
    limit: str
    #: Whose: `key`, `tenant` or `address`.
    scope: str
    #: What was set, and what of it is left.
    allowed: float
    left: float
    #: When to try again.
    retry_after_s: float

    @classmethod
    def of(cls, error: Exception) -> "Reached | None":
        if not isinstance(error, errors.TooMany):
            return None
        return cls(
            limit=error.limit,
            scope=error.scope,
            allowed=error.allowed,
            left=error.left,
            retry_after_s=round(error.retry_after_s, 3),
        )


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    code: str
    detail: str
    #: Dotted name of the field that is wrong, or "".
    path: str = ""
    retryable: bool = False
    headers: dict[str, str] = {}
    reached: Reached | None = None

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase


class ProblemBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The native API's error, RFC 9457. `code` is stable; `path` names the field that is wrong, if one is."""

    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    path: str = ""
    #: With code `too_many`: which limit (`requests_per_s`, `concurrent_jobs`, `audio_s_per_day`), and whose (`key`,
    #: `tenant`, `address`).
    limit: str = ""
    scope: str = ""
    #: What was set, what of it is left, and when to try again.
    allowed: float | None = None
    left: float | None = None
    retry_after_s: float | None = None


def describe(error: Exception, request: web.Request) -> Problem:
    """What `error` means to a client. An error that nobody foresaw has no detail: that is for the log."""
    if isinstance(error, web.HTTPException):
        return _of_aiohttp(error, request)
    if isinstance(error, web.RequestPayloadError):  # whose own words quote the body
        detail = "the body cannot be read: its length, its chunks or its compression are not what HTTP/1.1 has"
        return Problem(status=400, code="malformed", detail=detail)
    status = error.status if isinstance(error, GatewayError) else STATUS.get(type(error))
    if status is None:
        return Problem(status=500, code="internal", detail="an error of ours; the log has it")
    headers = {"Content-Range": f"bytes */{error.size}"} if isinstance(error, RangeRefused) else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="antiphon"'
    if status in _RETRY_AFTER_S:
        headers["Retry-After"] = str(_RETRY_AFTER_S[status])
    if isinstance(error, errors.TooMany):
        headers |= limit_headers(error)
    code, retryable = _code(error)
    return Problem(
        status=status,
        code=code,
        detail=str(error),
        path=getattr(error, "path", ""),
        retryable=retryable,
        headers=headers,
        reached=Reached.of(error),
    )


def _code(error: Exception) -> tuple[str, bool]:
    if isinstance(error, errors.JobError | GatewayError):
        return error.code, error.retryable
    if isinstance(error, errors.Unreachable):
        return "bus_unreachable", True
    return "malformed", False


def _of_aiohttp(error: web.HTTPException, request: web.Request) -> Problem:
    where = f"{request.method} {short(request.path)}"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        detail = f"the body is larger than {request.client_max_size} bytes"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        detail = f"{where}: allowed are {', '.join(sorted(error.allowed_methods))}"
    else:
        detail = f"{where}: {error.reason}"
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    code = _HTTP_CODES.get(error.status, f"http_{error.status}")
    return Problem(status=error.status, code=code, detail=detail, headers=headers)


def shown(problem: Problem) -> ProblemBody:
    return ProblemBody(
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        code=problem.code,
        retryable=problem.retryable,
        path=problem.path,
        **({} if problem.reached is None else msgspec.structs.asdict(problem.reached)),
    )


def respond(problem: Problem) -> web.Response:
    """RFC 9457."""
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(shown(problem)),
        content_type="application/problem+json",
        headers=problem.headers,
    )
