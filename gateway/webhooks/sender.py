"""Sends one webhook over HTTP: signed, to public addresses only, and without following redirects."""

import base64
import binascii
import errno
import hashlib
import hmac
import socket
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from bus.errors import Invalid
from bus.params import short
from bus.settings import redacted
from bus.webhook import Webhook
from gateway.webhooks.addresses import is_name, is_public, parsed
from gateway.webhooks.lookups import OWNER, Lookups

#: Of the whole exchange, name lookup and connection included.
TIMEOUT_S: Final = 10.0
#: Of the lookup and the connection.
_CONNECT_S: Final = 5.0
_KEY_PREFIX: Final = "whsec_"


class NotDelivered(Exception):
    """The receiver did not confirm the delivery. `is_final`: another try cannot help."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


class _PrivateAddressError(OSError):
    """A host name leads to an address that is not public."""


def check(webhook: Webhook, *, allow_private: bool) -> None:
    """Raises Invalid for a webhook that can never be delivered. Host names are resolved at delivery only."""
    host = _host(webhook.url)
    if not allow_private and parsed(host) and not is_public(host):
        raise Invalid(
            f"webhook.url: {short(host)} is no public address, and webhooks are sent to no other", "webhook.url"
        )
    if not webhook.events or len(set(webhook.events)) < len(webhook.events):
        raise Invalid(
            f"webhook.events: must name at least one, each once, not {list(webhook.events)}", "webhook.events"
        )
    _key(webhook.secret)


def _host(url: str) -> str:
    """The host of `url`, as it is connected to.

    Raises Invalid unless the scheme is http or https, there is no user, and the host is an IP address or a DNS name.
    """
    try:
        parts, host = urlsplit(url), URL(url).raw_host
        is_right = parts.scheme in {"http", "https"} and "@" not in parts.netloc
    except ValueError:
        parts, host, is_right = None, None, False
    if parts is None or not host or not is_right:
        raise Invalid(
            f"webhook.url: {short(redacted(url))!r} must be http://… or https://…, without a user in it", "webhook.url"
        )
    # Other spellings of an address are none: what `127.1` means is up to the resolver, full-width digits hide it.
    is_address = parsed(host) is not None and parts.netloc.isascii()
    if not is_address and (parts.netloc.startswith("[") or not is_name(host)):
        text = f"webhook.url: the host {short(host)!r} must be a DNS name, or an IP address in its usual form"
        raise Invalid(text, "webhook.url")
    return host


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


def public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for a connection to `address`. Raises OSError if that is not public.

    The last step before the connection: whatever a name resolved to before, this very address is connected to.
    """
    family, kind, protocol, _, where = address
    if not is_public(str(where[0])):
        raise _PrivateAddressError(errno.EACCES, f"resolves to {where[0]}, which is no public address")
    return socket.socket(family, kind, protocol)


class Sender:
    """An HTTP client for webhooks. Use it in `async with`."""

    def __init__(self, *, allow_private: bool) -> None:
        """`allow_private`: send to addresses of private networks too."""
        self._allow_private = allow_private

    async def __aenter__(self) -> "Sender":
        new_socket = None if self._allow_private else public_socket
        # No connection is reused: the address is checked for each delivery.
        connector = aiohttp.TCPConnector(
            resolver=Lookups(), socket_factory=new_socket, use_dns_cache=False, force_close=True, limit=0
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, connect=_CONNECT_S),
            headers={"User-Agent": f"antiphon/{version('antiphon')}", "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def post(self, webhook: Webhook, headers: dict[str, str], body: bytes, owner: str) -> None:
        """Send `body` for `owner`, whose share of the lookups it uses.

        Raises NotDelivered unless the status is 2xx within `TIMEOUT_S`; redirects are not followed.
        """
        OWNER.set(owner)
        try:
            check(webhook, allow_private=self._allow_private)
            async with self._session.post(webhook.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except Invalid as error:
            raise NotDelivered(str(error), is_final=True) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise NotDelivered(f"no connection within {_CONNECT_S:g} s") from error
        except TimeoutError as error:
            raise NotDelivered(f"no response within {TIMEOUT_S:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            raise NotDelivered(f"the response was {status}", is_final=status == 410)
