"""Reads the body of an ACE-Step request, JSON or a form, and authenticates by the key in it."""

import asyncio
from typing import Any, Final

import msgspec
from aiohttp import web

from bus.errors import Malformed
from bus.params import short
from gateway.access.authenticator import NO_TENANT
from gateway.access.caller import CALLER, caller
from gateway.dialects.acestep.fields import quoted
from gateway.http.forms import FORM_ERRORS
from gateway.http.responses import GRANTED
from gateway.http.services import AUTHENTICATOR, COUNTED, LIMITER

#: ACE-Step's field for the key, beside the header.
_KEY: Final = "ai_token"
#: Where a client may put its key, for the refusal of a request without one.
_KEY_PLACES: Final = f"`Authorization: Bearer KEY` or as `{_KEY}`"
#: How long the body of a client may take that has shown no key so far: others could fill the gateway's memory.
UNAUTHENTICATED_S: Final = 10.0


async def read_body(request: web.Request) -> tuple[dict[str, Any], list[str]]:
    """A body's fields, without its key, and the names of the files in it. Sets the request's caller by the key.

    Raises Malformed; HTTPUnsupportedMediaType; HTTPRequestEntityTooLarge; Unauthorized, Forbidden, TooMany.
    """
    try:
        async with asyncio.timeout(UNAUTHENTICATED_S if caller(request).tenant == NO_TENANT else None):
            body, files = await _body(request)
    except (Malformed, web.HTTPException, TimeoutError):
        _authenticate(request, "")
        raise
    key = body.pop(_KEY, "")
    _authenticate(request, key.strip() if isinstance(key, str) else "")
    return body, files


def _authenticate(request: web.Request, key: str) -> None:
    """Set the request's caller, and count the request against the limits of a key that was not known before."""
    before = caller(request)
    authenticated = request.app[AUTHENTICATOR].authenticate_body(request, key, _KEY_PLACES)
    request[CALLER] = authenticated
    if authenticated.key == before.key or request.match_info.handler not in request.app[COUNTED]:
        return
    # The request was counted for its address before its body was read.
    granted = request.app[LIMITER].requests.grant(msgspec.structs.replace(authenticated, address=""))
    if granted is not None:
        request[GRANTED] = granted


async def _body(request: web.Request) -> tuple[dict[str, Any], list[str]]:
    """A body's fields and the names of its files. Raises Malformed, HTTPException."""
    kind = request.content_type
    data = await request.read() if kind != "multipart/form-data" else b""
    # `curl -d '{…}'` sends JSON with the content type of a form.
    if kind in {"application/json", "application/octet-stream"} or data.lstrip().startswith(b"{"):
        return _json_object(data), []
    if kind not in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        raise web.HTTPUnsupportedMediaType(reason=f"{short(kind)} is none of JSON, multipart and urlencoded forms")
    try:
        form = await request.post()
    except web.HTTPException:
        raise
    except FORM_ERRORS as error:
        raise Malformed(f"the body is no {kind}: {error}") from error
    files = [name for name, value in form.items() if not isinstance(value, str)]
    return {name: value for name, value in form.items() if isinstance(value, str)}, files


def _json_object(data: bytes) -> dict[str, Any]:
    """Raises Malformed."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Malformed(f"the body is JSON, but not an object: {quoted(value)}")
    return value
