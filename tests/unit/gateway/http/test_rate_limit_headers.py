"""Headers that report limits."""

import pytest

from bus.errors import TooMany
from gateway.http.rate_limit_headers import openai_duration, refused_headers


def too_many(limit: str, allowed: float, retry_after_s: float, **more: float) -> TooMany:
    error = TooMany("too many")
    error.limit = limit
    error.allowed = allowed
    error.retry_after_s = retry_after_s
    for name, value in more.items():
        setattr(error, name, value)
    return error


def test_a_refusal_says_when_to_retry_as_several_clients_read_it() -> None:
    assert refused_headers(too_many("requests_per_s", 2.5, 0.31, burst=5, full_after_s=2.0)) == {
        "Retry-After": "1",
        "Retry-After-Ms": "310",
        "RateLimit-Policy": '"requests";q=5;w=2',
        "RateLimit": '"requests";r=0;t=2',
        "X-RateLimit-Limit-Requests": "5",
        "X-RateLimit-Remaining-Requests": "0",
        "X-RateLimit-Reset-Requests": "2s",
    }


def test_audio_and_jobs_name_their_own_unit() -> None:
    assert refused_headers(too_many("audio_s_per_day", 3600.0, 4000.2)) == {
        "Retry-After": "4001",
        "Retry-After-Ms": "4000200",
        "RateLimit-Policy": '"audio-seconds";q=3600;w=86400;qu="audio-seconds"',
        "RateLimit": '"audio-seconds";r=0;t=4001',
    }
    assert refused_headers(too_many("concurrent_jobs", 4, 1.0))["RateLimit"] == '"concurrent-requests";r=0;t=1'


def test_a_limit_of_a_newer_gateway_still_says_when_to_retry() -> None:
    assert refused_headers(too_many("moons", 1, 0.0)) == {"Retry-After": "1", "Retry-After-Ms": "1"}


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0ms"), (0.1201, "121ms"), (1.0, "1s"), (1.5, "1.5s"), (360.0, "6m0s"), (61.25, "1m1.25s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, written: str) -> None:
    assert openai_duration(seconds) == written
