"""One webhook over HTTP: signed, to no address inside our own network, and never further than where it was sent."""

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

#: For the whole exchange, name and connection included.
TIMEOUT_S: Final = 10.0
_KEY_PREFIX: Final = "whsec_"
#: Addresses of IPv6 that a router turns into the one of IPv4 that stands in them: at the end, and behind 16 bits.
_NAT64, _6TO4 = ip_network("64:ff9b::/96"), ip_network("2002::/16")


class NotDelivered(Exception):
    """Whoever was to be told has not said that it knows. `is_final`: nor will it."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


class _Private(OSError):
    """A name that stands for an address of our own network."""


def is_public(text: str) -> bool:
    """Whether an address is one of the whole internet's, and not a way round to one that is not."""
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


def check(hook: Webhook, *, allow_private: bool) -> None:
    """Raises Invalid for what can never be told. What a name stands for is looked at when it is used."""
    host = _host(hook.url)
    if not allow_private and _is_address(host) and not is_public(host):
        raise Invalid(f"webhook.url: {short(host)} is no public address, and others are not told", "webhook.url")
    if not hook.events or len(set(hook.events)) < len(hook.events):
        raise Invalid(f"webhook.events: must name at least one, each once, not {list(hook.events)}", "webhook.events")
    _key(hook.secret)


def _host(url: str) -> str:
    """Raises Invalid unless `url` is one of http or https, with a host and no user in it."""
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
    """Raises Invalid for a `whsec_` without base64 behind it."""
    if not secret.startswith(_KEY_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"webhook.secret: behind {_KEY_PREFIX} must stand base64", "webhook.secret") from error


def signed(hook: Webhook, event_id: str, now_s: int, body: bytes) -> dict[str, str]:
    """The headers of the Standard Webhooks: an id, the time, and the HMAC-SHA256 of both and the body."""
    headers = {"webhook-id": event_id, "webhook-timestamp": str(now_s)}
    if hook.secret:
        told = hmac.new(_key(hook.secret), f"{event_id}.{now_s}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(told).decode()}"
    return headers


class _Resolver(AbstractResolver):
    """The addresses that a name stands for, if all of them are public. The connection is made to these very ones."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        addresses = [(kind, str(where[0])) for kind, _, _, _, where in found]
        for _, address in addresses:
            if not is_public(address):
                raise _Private(errno.EACCES, f"{short(host)} stands for {address}, which is no public address")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in addresses
        ]

    async def close(self) -> None:
        """It holds nothing."""


class Sender:
    """`async with` it."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def __aenter__(self) -> "Sender":
        resolver = None if self._allow_private else _Resolver()
        # No connection is used twice: whom it leads to is decided each time.
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

    async def post(self, hook: Webhook, headers: dict[str, str], body: bytes) -> None:
        """Raises NotDelivered unless the answer is of the 200s. Redirects are not followed."""
        try:
            check(hook, allow_private=self._allow_private)
            async with self._session.post(hook.url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except Invalid as error:
            raise NotDelivered(str(error), is_final=True) from error
        except TimeoutError as error:
            raise NotDelivered(f"no answer within {TIMEOUT_S:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            raise NotDelivered(f"the answer was {status}", is_final=status == 410)
