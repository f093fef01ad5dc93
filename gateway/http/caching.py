"""`Cache-Control` of requests, and the response header that says how the result cache answered."""

from typing import Final

from aiohttp import hdrs, web

#: Response header, of requests that could share a run: `miss`, `shared` or `hit`.
CACHE_HEADER: Final = "Antiphon-Cache"


def refuses_cache(request: web.Request) -> bool:
    """`Cache-Control: no-store`: the request gets a run of its own, which answers no other request."""
    return "no-store" in _directives(request)


def wants_fresh(request: web.Request) -> bool:
    """`Cache-Control: no-cache`: the request gets a run that starts after it, and that answers later requests."""
    return "no-cache" in _directives(request)


def _directives(request: web.Request) -> set[str]:
    # A browser's WebSocket handshake always says no-cache, whatever its page wants.
    if hdrs.CACHE_CONTROL not in request.headers or hdrs.UPGRADE in request.headers:
        return set()
    value = ",".join(request.headers.getall(hdrs.CACHE_CONTROL))
    return {directive.partition("=")[0].strip().lower() for directive in value.split(",")}
