"""The address that a request comes from."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from bus.settings import SettingsError
from gateway.access.addresses import Addresses, site_of


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


def test_without_trusted_proxies_no_forwarded_address_counts() -> None:
    assert Addresses(()).of(request_from("10.1.1.1", "203.0.113.9")) == "10.1.1.1"


def test_a_proxy_that_is_no_address_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"trusted_proxies.*proxy\.example"):
        Addresses(("proxy.example",))


def test_hosts_of_one_ipv6_site_are_one_address_to_a_limit() -> None:
    assert site_of("2001:db8:1:2:3:4:5:6") == site_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert site_of("2001:db8:1:3::1") != site_of("2001:db8:1:2::1")
    assert site_of("::ffff:192.0.2.1") == site_of("192.0.2.1") == "192.0.2.1"
    assert site_of("/run/socket") == "/run/socket"
