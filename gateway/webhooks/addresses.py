"""Which addresses and hosts a webhook may be sent to: a table of our own, equal on every version of Python.

`ipaddress.is_global` follows the registries of the day on which that interpreter was released. No I/O.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

#: IPv4 networks that are not reachable from the whole internet, or that no receiver can be in: IANA's registry of
#: special-purpose addresses, multicast, and metadata services of clouds.
_IPV4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this network": a connection goes to the host itself
        "10.0.0.0/8",  # private use
        "100.64.0.0/10",  # shared by providers; 100.100.100.200 is a metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a metadata service at an address that looks public
        "169.254.0.0/16",  # link-local; 169.254.169.254 is the usual metadata service
        "172.16.0.0/12",  # private use
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a metadata service
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4, deprecated
        "192.168.0.0/16",  # private use
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
#: The only IPv6 network that global unicast addresses are assigned from. Outside of it lie loopback, unique local
#: (fd00:ec2::254 is a metadata service), link-local and site-local addresses, multicast, segment routing, the discard
#: and dummy prefixes, and IPv4 addresses in compatible (::/96) and translated (::ffff:0:0:0/96) form.
_IPV6_UNICAST: Final = IPv6Network("2000::/3")
#: The parts of it that are not.
_IPV6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID; no receiver has an address in it
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: a router sends the packet to the IPv4 address inside
        "3fff::/20",  # documentation
    )
)
#: Networks outside `_IPV6_UNICAST` whose packets go to the IPv4 address in the last 32 bits. 64:ff9b:1::/48 is not one:
#: what its addresses are translated to is each site's own matter.
_IPV4_INSIDE: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
#: ISATAP: bits 32 to 63 of an address in any network, if the IPv4 address in its last 32 bits is to receive the packet.
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
#: A last label that the resolver of an operating system may take for a number, and the whole host for an address.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME: Final = 253


def is_public(text: str) -> bool:
    """Whether the address `text` is reachable from the whole internet, and leads to no address that is not.

    An address with a zone (`fe80::1%eth0`) is not. Raises ValueError if `text` is no address.
    """
    address = parsed(text)
    if address is None:
        raise ValueError(f"{text!r} is no IP address")
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _IPV4)
    if address.scope_id is not None:
        return False
    number = int(address)
    inside = str(IPv4Address(number & 0xFFFFFFFF))
    if any(address in network for network in _IPV4_INSIDE):
        return is_public(inside)
    if (number >> 32) & 0xFFFFFFFF in _ISATAP and not is_public(inside):
        return False
    return address in _IPV6_UNICAST and not any(address in network for network in _IPV6)


def parsed(text: str) -> IPv4Address | IPv6Address | None:
    """The address in `text`, or None: four decimal numbers without leading zeros, or IPv6, which may have a zone."""
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return None


def is_name(host: str) -> bool:
    """Whether `host`, in lower case, is a DNS name: one that no resolver takes for an address.

    `127.1`, `2130706433`, `0177.0.0.1`, `0x7f.1`, `0` and `127.0.0.1.` are none: `inet_aton` reads them as addresses.
    """
    labels = host.removesuffix(".").split(".")
    is_long = len(host) > _MAX_NAME
    return not is_long and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1])
