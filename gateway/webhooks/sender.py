"""Sends one webhook over HTTP: signed, to public addresses only, and without following redirects."""

import asyncio
import base64
import binascii
import errno
import hashlib
import hmac
import socket
from importlib.metadata import version
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from bus.errors import Invalid
from bus.params import short
from bus.settings import redacted
from bus.webhook import Webhook

#: Of the whole exchange, name lookup and connection included.
TIMEOUT_S: Final = 10.0
_KEY_PREFIX: Final = "whsec_"
#: IPv6 networks whose packets a router translates to the IPv4 address in them: in the last 32 bits, or after 16 bits.
_NAT64: Final = ip_network("64:ff9b::/96")
_6TO4: Final = ip_network("2002::/16")


class NotDelivered(Exception):
    """The receiver did not confirm the delivery. `is_final`: another try cannot help."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


class _PrivateAddressError(OSError):
    """A host name resolves to an address that is not public."""


def is_public(text: str) -> bool:
    """Whether an address is reachable from the whole internet, and not translated to one that is not."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address in _6TO4:
            inner = IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def check(webhook: Webhook, *, allow_private: bool) -> None:
    """Raises Invalid for a webhook that can never be delivered. Host names are resolved at delivery only."""
    host = _host(webhook.url)
    if not allow_private and _is_address(host) and not is_public(host):
        raise Invalid(
            f"webhook.url: {short(host)} is no public address, and webhooks are sent to no other", "webhook.url"
        )
    if not webhook.events or len(set(webhook.events)) < len(webhook.events):
        raise Invalid(
            f"webhook.events: must name at least one, each once, not {list(webhook.events)}", "webhook.events"
        )
    _key(webhook.secret)


def _host(url: str) -> str:
    """The host of `url`. Raises Invalid unless the scheme is http or https and there is no user in it."""
    try:
        parsed = URL(url)
        host, is_right = parsed.host, parsed.scheme in {"http", "https"} and parsed.user is None
    except ValueError:
        host, is_right = None, False
    if not host or not is_right:
        raise Invalid(
            f"webhook.url: {short(redacted(url))!r} must be http://… or https://…, without a user in it", "webhook.url"
        )
    return host


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _key(secret: str) -> bytes:
    """The key that a secret stands for. Raises Invalid for `whsec_` without base64 after it."""
    if not secret.startswith(_KEY_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"webhook.secret: must have base64 after {_KEY_PREFIX}", "webhook.secret") from error


def signature_headers(webhook: Webhook, event_id: str, now_s: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks: id, Unix time, and, with a secret, the HMAC-SHA256 of both and the body."""
    headers = {"webhook-id": event_id, "webhook-timestamp": str(now_s)}
    if webhook.secret:
        digest = hmac.new(_key(webhook.secret), f"{event_id}.{now_s}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


class _Resolver(AbstractResolver):
    """Resolves a host name, if all its addresses are public. The connection is made to these very addresses."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises OSError if it has none, or one that is not public."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        addresses = [(kind, str(where[0])) for kind, _, _, _, where in found]
        for _, address in addresses:
            if not is_public(address):
                raise _PrivateAddressError(
                    errno.EACCES, f"{short(host)} resolves to {address}, which is no public address"
                )
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in addresses
        ]

    async def close(self) -> None:
        """Holds nothing."""


class Sender:
    """An HTTP client for webhooks. Use it in `async with`."""

    def __init__(self, *, allow_private: bool) -> None:
        """`allow_private`: send to addresses of private networks too."""
        self._allow_private = allow_private

    async def __aenter__(self) -> "Sender":
        resolver = None if self._allow_private else _Resolver()
        # No connection is reused: the address is checked for each delivery.
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            headers={"User-Agent": f"antiphon/{version('antiphon')}", "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def post(self, webhook: Webhook, headers: dict[str, str], body: bytes) -> None:
        """Send `body`. Raises NotDelivered unless the status is 2xx within `TIMEOUT_S`; redirects are not followed."""
        try:
            check(webhook, allow_private=self._allow_private)
            async with self._session.post(webhook.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except Invalid as error:
            raise NotDelivered(str(error), is_final=True) from error
        except TimeoutError as error:
            raise NotDelivered(f"no response within {TIMEOUT_S:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            raise NotDelivered(f"the response was {status}", is_final=status == 410)
