"""Whose address a request comes from: the peer's, or what a proxy that is trusted says of it."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp import hdrs, web

from bus.settings import SettingsError

_Network = IPv4Network | IPv6Network
#: An IPv6 site has at least so many bits to number its hosts with: all of them are one to a limit.
_SITE_BITS: Final = 64


class Addresses:
    def __init__(self, trusted_proxies: tuple[str, ...]) -> None:
        """`trusted_proxies`: addresses or networks (`10.0.0.0/8`). Raises SettingsError."""
        self._trusted: list[_Network] = []
        for text in trusted_proxies:
            try:
                self._trusted.append(ip_network(text, strict=False))
            except ValueError as error:
                raise SettingsError(f"trusted_proxies: {error}") from error
        #: Whether a request may come from another address than that of its peer.
        self.trusts_proxies = bool(self._trusted)

    def of(self, request: web.Request) -> str:
        """The nearest address that is no trusted proxy's; "" where there is none (a Unix socket).

        Every proxy appends whom it was asked by to `X-Forwarded-For`, so what stands left of an address that nobody
        trusts is that one's own word.
        """
        peer = request.remote or ""
        if not self._trusted or not self._is_trusted(peer):
            return peer
        told = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, []))
        nearest = peer
        for text in reversed([part.strip() for part in told.split(",")]):
            if _parse(text) is None:
                return nearest
            nearest = text
            if not self._is_trusted(text):
                return nearest
        return nearest

    def _is_trusted(self, text: str) -> bool:
        address = _parse(text)
        return address is not None and any(address in network for network in self._trusted)


def site_of(text: str) -> str:
    """What counts as one address: an IPv4 address, or the network that an IPv6 host's site numbers its hosts in."""
    address = _parse(text)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _SITE_BITS), strict=False))
    return text if address is None else str(address)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
