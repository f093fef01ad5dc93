"""Web pages that may use this gateway: CORS by a list of origins, and no cross-site requests without a key.

A browser sends a page's simple requests to any address that it can reach, 127.0.0.1 too, and only hides the responses.
That does no harm where a key is needed, since a foreign page has none. Where none is needed, a request that changes
something is served only if no page sent it, or a page of this gateway, or one of a listed origin.
"""

import ipaddress
from collections.abc import Collection
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from bus.errors import Forbidden
from bus.params import short

_ANY: Final = "*"
_METHODS: Final = "GET, HEAD, POST, PUT, DELETE"
_CHANGING: Final = frozenset({hdrs.METH_POST, hdrs.METH_PUT, hdrs.METH_PATCH, hdrs.METH_DELETE})
#: Response headers that a page may read besides those that CORS always permits.
_EXPOSED: Final = (
    "Accept-Ranges, Antiphon-Ignored, Antiphon-Job, Antiphon-Marked, Antiphon-Media, Antiphon-Voice, "
    "Content-Disposition, Content-Range, ETag, Location, Retry-After, WWW-Authenticate, X-Request-Id"
)
_MAX_AGE_S: Final = 600


class Origins:
    """The listed origins, and the checks of `Origin` and `Host`."""

    def __init__(self, allowed: Collection[str], hosts: Collection[str] = ()) -> None:
        """`allowed`: origins like `https://app.example.org`; `*` allows every origin. `hosts`: more names of ours."""
        self._any = _ANY in allowed
        self._allowed = frozenset(origin.lower().rstrip("/") for origin in allowed)
        self._hosts = frozenset({urlsplit(origin).hostname for origin in self._allowed} | set(map(_name, hosts)))

    def __bool__(self) -> bool:
        """Whether pages of any other origin are allowed."""
        return bool(self._allowed)

    def has(self, origin: str) -> bool:
        """Whether pages of `origin` are allowed."""
        return self._any or origin.lower() in self._allowed

    async def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the CORS headers of a response, an error too, before its head is sent."""
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin.isascii() and self.has(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED

    def preflight(self, request: web.Request) -> web.Response | None:
        """The response to a CORS preflight; None for any other request. Raises Forbidden for an unlisted origin."""
        origin = request.headers.get(hdrs.ORIGIN)
        if (
            request.method != hdrs.METH_OPTIONS
            or origin is None
            or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers
        ):
            return None
        if not self.has(origin):
            raise _not_listed(origin)
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(_MAX_AGE_S),
            hdrs.VARY: f"{hdrs.ACCESS_CONTROL_REQUEST_METHOD}, {hdrs.ACCESS_CONTROL_REQUEST_HEADERS}",
        }
        if requested := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = requested
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    def check_page(self, request: web.Request) -> None:
        """Raises Forbidden for a request that changes something and was sent by a page of another, unlisted origin.

        For callers without a key. A WebSocket counts as a change: browsers let every page open one.
        """
        if request.method not in _CHANGING and not is_upgrade(request):
            return
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self.has(origin) or _is_same(origin, request):
            return
        raise _not_listed(origin)

    def check_host(self, request: web.Request) -> None:
        """Raises Forbidden for a `Host` that is neither this machine's name nor an address (DNS rebinding).

        For callers without a key at a loopback address. A page can resolve a name of its own to 127.0.0.1: for the
        browser the page and this gateway are then one origin.
        """
        host = _name(request.headers.get(hdrs.HOST, ""))
        if not host or "." not in host or host.endswith(".localhost") or host in self._hosts or _is_address(host):
            return
        raise Forbidden(
            f"Host: {short(host)!r}: callers without a key reach this gateway as localhost or by its address only;"
            " add the name to --allowed-hosts, or run it with --anonymous to open it under any name"
        )


def is_upgrade(request: web.Request) -> bool:
    """Whether the request opens a WebSocket."""
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def is_loopback(host: str) -> bool:
    """Whether a server that listens on `host` is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _not_listed(origin: str) -> Forbidden:
    return Forbidden(f"Origin: {short(origin)!r} is not one of --cors-origins")


def _is_same(origin: str, request: web.Request) -> bool:
    """Whether the page came from this gateway, as far as that is visible behind a proxy that terminates TLS."""
    if request.headers.get("Sec-Fetch-Site") == "same-origin":
        return True
    names = (request.headers.get(hdrs.HOST), request.headers.get(hdrs.X_FORWARDED_HOST))
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:  # no address, so not ours either
        return False
    return netloc.lower() in {name.lower() for name in names if name}


def _name(host: str) -> str:
    """The name in a `Host` header, without the port."""
    return (host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]).lower().rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
