"""What an answer says about limits, which requests count, and whose address a request comes from."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from bus.errors import TooMany
from bus.settings import SettingsError
from gateway.access.addresses import Addresses, site_of
from gateway.http.rate_limit_headers import _duration, headers_of, makes_no_work, makes_work


def too_many(limit: str, allowed: float, retry_after_s: float, **more: float) -> TooMany:
    error = TooMany("too many")
    error.limit = limit
    error.allowed = allowed
    error.retry_after_s = retry_after_s
    for name, value in more.items():
        setattr(error, name, value)
    return error


def test_a_refused_request_says_when_to_come_back_in_the_words_of_several_clients() -> None:
    assert headers_of(too_many("requests_per_s", 2.5, 0.31, burst=5, full_after_s=2.0)) == {
        "Retry-After": "1",
        "Retry-After-Ms": "310",
        "RateLimit-Policy": '"requests";q=5;w=2',
        "RateLimit": '"requests";r=0;t=2',
        "X-RateLimit-Limit-Requests": "5",
        "X-RateLimit-Remaining-Requests": "0",
        "X-RateLimit-Reset-Requests": "2s",
    }


def test_audio_and_jobs_name_their_own_unit() -> None:
    assert headers_of(too_many("audio_s_per_day", 3600.0, 4000.2)) == {
        "Retry-After": "4001",
        "Retry-After-Ms": "4000200",
        "RateLimit-Policy": '"audio-seconds";q=3600;w=86400;qu="audio-seconds"',
        "RateLimit": '"audio-seconds";r=0;t=4001',
    }
    assert headers_of(too_many("concurrent_jobs", 4, 1.0))["RateLimit"] == '"concurrent-requests";r=0;t=1'


def test_a_limit_that_a_newer_peer_knows_still_says_when_to_come_back() -> None:
    assert headers_of(too_many("moons", 1, 0.0)) == {"Retry-After": "1", "Retry-After-Ms": "1"}


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, "0ms"), (0.1201, "121ms"), (1.0, "1s"), (1.5, "1.5s"), (360.0, "6m0s"), (61.25, "1m1.25s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, told: str) -> None:
    assert _duration(seconds) == told


async def test_posts_and_puts_make_work_unless_their_handler_only_asks() -> None:
    async def makes(request: web.Request) -> web.Response:
        return web.Response()

    @makes_no_work
    async def asks(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/make", makes), web.put("/make", makes), web.get("/make", makes), web.post("/ask", asks)])
    found = {}
    for method, path in [("POST", "/make"), ("PUT", "/make"), ("GET", "/make"), ("POST", "/ask"), ("POST", "/no")]:
        request = make_mocked_request(method, path)
        request._match_info = await app.router.resolve(request)
        found[method, path] = makes_work(request)
    assert [path for path, counts in found.items() if counts] == [("POST", "/make"), ("PUT", "/make")]


def request_from(peer: str, *forwarded: str) -> web.Request:
    request = make_mocked_request("GET", "/", headers=[("X-Forwarded-For", line) for line in forwarded])
    return request.clone(remote=peer)


PROXIES = Addresses(("10.0.0.0/8", "2001:db8::1"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.7", ("203.0.113.9",), "198.51.100.7"),  # not a proxy of ours: its word counts for nothing
        ("10.1.1.1", (), "10.1.1.1"),
        ("10.1.1.1", ("203.0.113.9",), "203.0.113.9"),
        ("10.1.1.1", ("1.2.3.4, 203.0.113.9",), "203.0.113.9"),  # the client wrote 1.2.3.4 itself
        ("10.1.1.1", ("203.0.113.9, 10.2.2.2",), "203.0.113.9"),
        ("10.1.1.1", ("203.0.113.9", "10.2.2.2"), "203.0.113.9"),
        ("10.1.1.1", ("10.3.3.3, 10.2.2.2",), "10.3.3.3"),
        ("10.1.1.1", ("203.0.113.9, unknown",), "10.1.1.1"),
        ("2001:db8::1", ("2001:db8::abcd",), "2001:db8::abcd"),
        ("::ffff:10.1.1.1", ("203.0.113.9",), "203.0.113.9"),
    ],
)
def test_the_nearest_address_that_no_trusted_proxy_has_is_the_callers(
    peer: str, forwarded: tuple[str, ...], address: str
) -> None:
    assert PROXIES.of(request_from(peer, *forwarded)) == address


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert Addresses(()).of(request_from("10.1.1.1", "203.0.113.9")) == "10.1.1.1"


def test_a_proxy_that_is_no_address_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"trusted_proxies.*proxy\.example"):
        Addresses(("proxy.example",))


def test_hosts_of_one_ipv6_site_are_one_address_to_a_limit() -> None:
    assert site_of("2001:db8:1:2:3:4:5:6") == site_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert site_of("2001:db8:1:3::1") != site_of("2001:db8:1:2::1")
    assert site_of("::ffff:192.0.2.1") == site_of("192.0.2.1") == "192.0.2.1"
    assert site_of("/run/socket") == "/run/socket"
