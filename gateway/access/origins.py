"""Which web pages may use this gateway: CORS by list, and no page's unnoticed use of a gateway that needs no key.

A browser sends a page's simple requests to any address that it can reach, 127.0.0.1 too, and only hides the answers.
Where a key is needed that does no harm, as a page of somebody else has none. Where none is needed, a request counts
only if no page sent it, or one that this gateway served itself, or one of the listed origins.
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
#: What a page may read of our answers besides what every page may.
_EXPOSED: Final = (
    "Accept-Ranges, Antiphon-Job, Antiphon-Media, Content-Disposition, Content-Range, ETag, Location, Retry-After,"
    " WWW-Authenticate, X-Request-Id"
)
_MAX_AGE_S: Final = 600


class Origins:
    def __init__(self, allowed: Collection[str]) -> None:
        """`allowed`: `https://app.example.org`, …; `*` is every origin."""
        self._any = _ANY in allowed
        self._allowed = frozenset(origin.lower().rstrip("/") for origin in allowed)
        self._hosts = frozenset(urlsplit(origin).hostname for origin in self._allowed)

    def __bool__(self) -> bool:
        """Whether any page of another origin may ask."""
        return bool(self._allowed)

    def has(self, origin: str) -> bool:
        return self._any or origin.lower() in self._allowed

    async def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say on an answer, an error too, which page may read it. Called before any head is sent."""
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and self.has(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser's question before a page's request; None if it is no such question.

        Raises Forbidden for a page that is not listed.
        """
        origin = request.headers.get(hdrs.ORIGIN)
        if (
            request.method != hdrs.METH_OPTIONS
            or origin is None
            or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers
        ):
            return None
        if not self.has(origin):
            raise _stranger(origin)
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(_MAX_AGE_S),
            hdrs.VARY: f"{hdrs.ACCESS_CONTROL_REQUEST_METHOD}, {hdrs.ACCESS_CONTROL_REQUEST_HEADERS}",
        }
        if asked := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    def check_page(self, request: web.Request) -> None:
        """Raises Forbidden if a page of an origin that is not ours nor listed makes a caller without a key act.

        A WebSocket counts as acting: browsers let every page open one.
        """
        if request.method not in _CHANGING and not is_upgrade(request):
            return
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self.has(origin) or _is_same(origin, request):
            return
        raise _stranger(origin)

    def check_host(self, request: web.Request) -> None:
        """Raises Forbidden if a gateway that is open because only this machine reaches it is called by a foreign name.

        A page can point a name of its own at 127.0.0.1; for the browser it is of one origin with us then.
        """
        host = _name(request.headers.get(hdrs.HOST, ""))
        if not host or "." not in host or host.endswith(".localhost") or host in self._hosts or _is_address(host):
            return
        raise Forbidden(
            f"Host: {short(host)!r}: callers without a key reach this gateway as localhost or by its address only;"
            " run it with --anonymous to open it under any name"
        )


def is_upgrade(request: web.Request) -> bool:
    """Whether it asks for a WebSocket."""
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _stranger(origin: str) -> Forbidden:
    return Forbidden(f"Origin: {short(origin)!r} is not one of --cors-origins")


def _is_same(origin: str, request: web.Request) -> bool:
    """Whether the page came from this gateway, as far as a proxy that ends TLS lets us see."""
    if request.headers.get("Sec-Fetch-Site") == "same-origin":
        return True
    names = (request.headers.get(hdrs.HOST), request.headers.get(hdrs.X_FORWARDED_HOST))
    return urlsplit(origin).netloc.lower() in {name.lower() for name in names if name}


def _name(host: str) -> str:
    """A Host header less its port."""
    return (host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]).lower().rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
