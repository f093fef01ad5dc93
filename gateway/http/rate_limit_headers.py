"""What an answer says about limits: which requests count, and the headers that clients read.

`x-ratelimit-*-requests` is what OpenAI's clients know, `retry-after-ms` what they wait by; `RateLimit` and
`RateLimit-Policy` are the IETF's (draft-ietf-httpapi-ratelimit-headers).
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web

from bus.errors import TooMany
from gateway.limits.limiter import Granted
from gateway.limits.refusals import AUDIO, JOBS, REQUESTS

_Handler = TypeVar("_Handler", bound=Callable[[web.Request], Awaitable[web.StreamResponse]])

#: `request[GRANTED]`: what is left after this request, if something limits it.
GRANTED: Final = web.RequestKey("granted", Granted)
_FREE: Final = "__antiphon_makes_no_work__"
_UNITS: Final = {REQUESTS: "requests", JOBS: "concurrent-requests", AUDIO: "audio-seconds"}
_DAY_S: Final = 86_400


def makes_no_work(handler: _Handler) -> _Handler:
    """Mark a handler of POST or PUT that only asks: it counts against no limit."""
    setattr(handler, _FREE, True)
    return handler


def makes_work(request: web.Request) -> bool:
    """Whether the request counts against requests per second: it posts or puts, and there is a handler for it."""
    if request.method not in {"POST", "PUT"} or request.match_info.http_exception is not None:
        return False
    return not hasattr(request.match_info.handler, _FREE)


async def mark(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: tell what is left, unless the answer tells of a limit already."""
    granted = request.get(GRANTED)
    if granted is None or "RateLimit" in response.headers:
        return
    rate, standing = granted.rate, granted.standing
    response.headers.update(_of_requests(rate.per_s, rate.burst, standing.left, standing.full_after_s))


def headers_of(error: TooMany) -> dict[str, str]:
    """Of an answer that refuses."""
    headers = {
        "Retry-After": str(max(1, _up(error.retry_after_s))),
        "Retry-After-Ms": str(max(1, _up(error.retry_after_s * 1000))),
    }
    if error.limit == REQUESTS:
        return headers | _of_requests(error.allowed, error.burst, 0, error.full_after_s)
    unit = _UNITS.get(error.limit)
    if unit is None:
        return headers
    window = f";w={_DAY_S}" if error.limit == AUDIO else ""
    left = f'"{unit}";r={math.floor(error.left)};t={headers["Retry-After"]}'
    return headers | {
        "RateLimit-Policy": f'"{unit}";q={math.floor(error.allowed)}{window};qu="{unit}"',
        "RateLimit": left,
    }


def _of_requests(per_s: float, burst: int, left: int, full_after_s: float) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"requests";q={burst};w={max(1, _up(burst / per_s))}',
        "RateLimit": f'"requests";r={left};t={_up(full_after_s)}',
        "X-RateLimit-Limit-Requests": str(burst),
        "X-RateLimit-Remaining-Requests": str(left),
        "X-RateLimit-Reset-Requests": _duration(full_after_s),
    }


def _up(number: float) -> int:
    """Rounded up, but not for the last bits of a float."""
    return math.ceil(number - 1e-6)


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{_up(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{minutes:.0f}m{text}s" if minutes else f"{text}s"
