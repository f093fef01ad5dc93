"""Heads that no handler can act on: headers that are no text, and bodies in an encoding that is not decoded here."""

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from bus.errors import Malformed
from bus.params import short
from gateway.http.problems import GatewayError

#: What aiohttp decodes as this project installs it; of the others it knows, it refuses those without their library.
ENCODINGS: Final = "gzip, deflate"
_DECODED: Final = frozenset({"gzip", "deflate", "br", "zstd", "identity", ""})


class UnknownEncoding(GatewayError):
    """The body is encoded in a way that is not decoded here."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_encoding"
    path = "Content-Encoding"


def check_head(request: web.Request) -> None:
    """Raises Malformed for a header that is no UTF-8, and UnknownEncoding.

    aiohttp keeps bytes that are no text as lone surrogates, which most code cannot encode again.
    """
    for name, value in request.headers.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Malformed(f"{name}: the value of this header is not UTF-8") from None
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "")
    if request.can_read_body and encoding.strip().lower() not in _DECODED:
        raise UnknownEncoding(
            f"Content-Encoding: {short(encoding)!r} is not decoded here; send one of {ENCODINGS}, or none"
        )
