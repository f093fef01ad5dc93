"""The client address of a request: the peer's, or the one that a trusted proxy forwards."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp import hdrs, web

from bus.settings import SettingsError

_Network = IPv4Network | IPv6Network
#: An IPv6 site numbers its hosts with at least this many bits, so a limit treats them all as one address.
_SITE_BITS: Final = 64


class Addresses:
    """Finds the client address of requests, behind proxies too."""

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
        """The nearest address that is not a trusted proxy's; "" without one (a Unix socket).

        Every proxy appends the address of its peer to `X-Forwarded-For`. So the entries left of the first untrusted
        address, read from the right, were chosen by that peer, and prove nothing.
        """
        peer = request.remote or ""
        if not self._trusted or not self.trusts(peer):
            return peer
        forwarded = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, []))
        nearest = peer
        for text in reversed([part.strip() for part in forwarded.split(",")]):
            if _parse(text) is None:
                return nearest
            nearest = text
            if not self.trusts(text):
                return nearest
        return nearest

    def trusts(self, text: str) -> bool:
        """Whether the address is a trusted proxy's."""
        address = _parse(text)
        return address is not None and any(address in network for network in self._trusted)


def site_of(text: str) -> str:
    """The account of a client address under a limit: an IPv4 address, or the /64 network of an IPv6 address."""
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
