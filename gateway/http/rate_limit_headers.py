"""Headers that report limits.

OpenAI's clients know `x-ratelimit-*-requests`, and wait by `retry-after-ms`; `RateLimit` and `RateLimit-Policy` are the
IETF's (draft-ietf-httpapi-ratelimit-headers).
"""

import math
from typing import Final

from bus.errors import TooMany
from gateway.limits.limiter import Granted
from gateway.limits.refusals import AUDIO, JOBS, REQUESTS

_UNITS: Final = {REQUESTS: "requests", JOBS: "concurrent-requests", AUDIO: "audio-seconds"}
_DAY_S: Final = 86_400


def granted_headers(granted: Granted) -> dict[str, str]:
    """Headers of the response to a request that a limit let through: the part of the limit that is left."""
    rate, standing = granted.rate, granted.standing
    return _request_headers(rate.per_s, rate.burst, standing.left, standing.full_after_s)


def refused_headers(error: TooMany) -> dict[str, str]:
    """Headers of the response to a request that a limit refused."""
    headers = {
        "Retry-After": str(max(1, _rounded_up(error.retry_after_s))),
        "Retry-After-Ms": str(max(1, _rounded_up(error.retry_after_s * 1000))),
    }
    if error.limit == REQUESTS:
        return headers | _request_headers(error.allowed, error.burst, 0, error.full_after_s)
    unit = _UNITS.get(error.limit)
    if unit is None:
        return headers
    window = f";w={_DAY_S}" if error.limit == AUDIO else ""
    left = f'"{unit}";r={math.floor(error.left)};t={headers["Retry-After"]}'
    return headers | {
        "RateLimit-Policy": f'"{unit}";q={math.floor(error.allowed)}{window};qu="{unit}"',
        "RateLimit": left,
    }


def _request_headers(per_s: float, burst: int, left: int, full_after_s: float) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"requests";q={burst};w={max(1, _rounded_up(burst / per_s))}',
        "RateLimit": f'"requests";r={left};t={_rounded_up(full_after_s)}',
        "X-RateLimit-Limit-Requests": str(burst),
        "X-RateLimit-Remaining-Requests": str(left),
        "X-RateLimit-Reset-Requests": openai_duration(full_after_s),
    }


def _rounded_up(number: float) -> int:
    """Rounded up, except for an excess that is an error of float arithmetic."""
    return math.ceil(number - 1e-6)


def openai_duration(seconds: float) -> str:
    """A duration as OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{_rounded_up(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{minutes:.0f}m{text}s" if minutes else f"{text}s"
