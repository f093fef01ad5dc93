"""Which addresses and hosts webhooks may be sent to: a fixed table, equal on every version of Python."""

import pytest

from bus.errors import Invalid
from bus.webhook import Webhook
from gateway.webhooks.addresses import is_name, is_public
from gateway.webhooks.sender import check

_PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
    168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0
    192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0
    203.0.112.255 203.0.114.0 223.255.255.255
    2001:200:: 2001:4860:4860::8888 2001:db7:ffff:: 2001:db9:: 2003:: 2600:: 2606:4700:4700::1111 2620:4f:8000::1
    2a00:1450:4001:82a::200e 3ffe:ffff:: 3fff:1000::
    ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2600::200:5efe:808:808
"""
_PRIVATE = """
    0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0 100.64.0.1 100.100.100.200
    100.127.255.255 127.0.0.0 127.0.0.1 127.1.2.3 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.253
    169.254.169.254 169.254.170.2 169.254.255.255 172.16.0.0 172.16.0.1 172.31.255.255 192.0.0.0 192.0.0.8 192.0.0.9
    192.0.0.170 192.0.0.171 192.0.0.192 192.0.0.255 192.0.2.1 192.88.99.1 192.168.0.0 192.168.1.1 192.168.255.255
    198.18.0.0 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.0 255.255.255.254
    255.255.255.255
    :: ::1 ::2 ::7f00:1 ::8.8.8.8 ::ffff:0.0.0.0 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254
    ::ffff:168.63.129.16 ::ffff:192.0.0.192 ::ffff:0:7f00:1 ::ffff:0:8.8.8.8 64:ff9b::7f00:1 64:ff9b::10.0.0.1
    64:ff9b::a9fe:a9fe 64:ff9b::192.0.0.192 64:ff9b:1::7f00:1 64:ff9b:1::8.8.8.8 64:ff9b:1:ffff:: 100:: 100:0:0:1::1
    200::1 2001::1 2001:0:7f00:1::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:1::1 2001:2::1 2001:10::1 2001:20::1
    2001:1ff:ffff:: 2001:db8::1 2001:db8:ffff:: 2002:: 2002:7f00:1:: 2002:808:808::1 2600::5efe:10.0.0.1
    2600::200:5efe:127.0.0.1 3fff::1 3fff:fff:: 4000::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 fe80::1
    fe80::1%eth0 2600::1%eth0 ::ffff:8.8.8.8%1 febf::1 fec0::1 feff::1 ff00::1 ff02::1 ff0e::1
"""
PUBLIC, PRIVATE = _PUBLIC.split(), _PRIVATE.split()


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_whole_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_lead_elsewhere_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("text", ["", "127.1", "0", "0177.0.0.1", "08.8.8.8", "example.com", ":", "1:2", "1.2.3.4.5"])
def test_what_is_no_address_is_not_judged(text: str) -> None:
    with pytest.raises(ValueError, match="no IP address"):
        is_public(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(
            (name, True)
            for name in ("localhost", "example.com", "example.com.", "a_b.c-d.e", "1.example", "xn--r8jz45g.jp")
        ),
        *(
            (name, True)
            for name in ("0x7f.example", "2130706433.example.com", "127.0.0.1.nip.io", "a" * 63, "1a", "0xg")
        ),
        *(
            (host, False)
            for host in ("127.1", "2130706433", "0177.0.0.1", "0x7f.1", "0", "0x", "0x7f000001", "1.2.3.4.5")
        ),
        *(
            (host, False)
            for host in ("127.0.0.1.", "0x7f000001.", "example.1", "example.0x1", "example.com.0", "017700000001")
        ),
        *(
            (host, False)
            for host in ("", ".", "a..b", ".a", "a b", "a%00b", "%31", "*", "a/b", "a" * 64, "a." * 127 + "a")
        ),
    ],
)
def test_a_name_is_what_no_resolver_takes_for_an_address(host: str, expected: bool) -> None:
    assert is_name(host) == expected


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"http://{host}/hook"
            for host in ("127.1", "2130706433", "0177.0.0.1", "0x7f.1", "0", "0x7f000001", "1.2.3.4.5")
        ),
        *(
            f"https://{host}:8080/"
            for host in ("127.0.0.1.", "１２７.0.0.1", "①②⑦.0.0.1", "８.8.8.8", "127。0。0。1", "１２７.1")
        ),
        *(f"http://{host}" for host in ("%31%32%37.0.0.1", "127%2e1", "a%00b", "a..b", "*", "[v1.a]", "[::1")),
        *(f"http://{host}" for host in ("u@127.0.0.1", "@example.com", ":@example.com", "example.com@127.0.0.1")),
        *(f"http://{host}/" for host in ("example.com\\@127.0.0.1", "example.com:x", "example.com:99999")),
        *(
            "http:///x",
            "http:x",
            "ftp://example.com",
            "file:///etc/passwd",
            "//example.com",
            "http:\\\\127.0.0.1",
            "http://",
        ),
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_hosts_that_could_be_read_in_two_ways_are_refused_by_name(url: str, allow_private: bool) -> None:
    with pytest.raises(Invalid) as caught:
        check(Webhook(url=url), allow_private=allow_private)
    assert caught.value.path == "webhook.url"


@pytest.mark.parametrize("address", [*PUBLIC, *PRIVATE])
def test_an_address_in_a_url_is_judged_by_the_table(address: str) -> None:
    host = f"[{address.replace('%', '%25')}]" if ":" in address else address
    webhook = Webhook(url=f"http://{host}:8080/hook")
    if address in PUBLIC:
        check(webhook, allow_private=False)
        return
    with pytest.raises(Invalid, match=r"^webhook\.url"):
        check(webhook, allow_private=False)
    check(webhook, allow_private=True)


@pytest.mark.parametrize("url", ["https://example.com", "http://例え.jp/x", "HTTPS://EXAMPLE.com:1/", "http://8.8.8.8"])
def test_names_and_public_addresses_are_accepted(url: str) -> None:
    check(Webhook(url=url), allow_private=False)
