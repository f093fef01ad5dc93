"""Problems of requests that aiohttp's parser refuses. No text here quotes the request, which may hold a key."""

from typing import Final

from aiohttp import hdrs, http_exceptions, web

from gateway.http.heads import ENCODINGS, UnknownEncoding
from gateway.http.problems import INTERNAL, UNKNOWN_EXPECTATION, Problem

#: Limits of the path with its query, and of a header (its value; aiohttp adds the name of the first one alone). They
#: differ: the limit in an error of aiohttp shows which of the two was exceeded.
MAX_PATH_BYTES: Final = 8190
MAX_HEADER_BYTES: Final = 8192
MAX_HEADERS: Final = 128
_TOO_MANY: Final = "Too many headers received"


def describe_unreadable(error: BaseException | None, request: web.BaseRequest) -> Problem:
    """The problem of a request that aiohttp could not read. Not with aiohttp's text, which quotes the request."""
    if isinstance(error, UnicodeEncodeError) and hdrs.EXPECT in request.headers:
        return UNKNOWN_EXPECTATION  # aiohttp's own refusal of it cannot be encoded
    if isinstance(error, http_exceptions.LineTooLong):
        return _too_long(error)
    if not isinstance(error, http_exceptions.HttpProcessingError):
        return INTERNAL
    match error:
        case http_exceptions.BadHttpMethod():
            detail = "the request line begins with no HTTP method; this port speaks HTTP/1.1, without TLS"
        case http_exceptions.ContentEncodingError():
            detail = f"Content-Encoding: this one is not decoded here; send one of {ENCODINGS}, or none"
            return Problem(status=415, code=UnknownEncoding.code, detail=detail, path=UnknownEncoding.path)
        case http_exceptions.BadStatusLine():
            detail = "the request line is none of HTTP/1.1"
        case http_exceptions.InvalidURLError():
            detail = "the request line has a path that cannot be read"
        case http_exceptions.InvalidHeader():
            detail = "a header cannot be read"
        case _ if error.message == _TOO_MANY:
            return Problem(status=431, code="too_large", detail=f"there are more than {MAX_HEADERS} headers")
        case _:
            detail = "the request is none of HTTP/1.1: a header, the body's length or a chunk of it cannot be read"
    return Problem(status=400, code="malformed", detail=detail)


def late_head(head_s: float) -> Problem:
    """The problem of a request whose head was not complete after `head_s`."""
    detail = f"the request's head did not arrive within {head_s:g} s of its first byte, or of the connection's opening"
    return Problem(status=408, code="too_slow", detail=detail, retryable=True)


def _too_long(error: http_exceptions.LineTooLong) -> Problem:
    if error.args[1] == MAX_PATH_BYTES:
        detail = f"the request line: path and query are longer than {MAX_PATH_BYTES} bytes"
        return Problem(status=414, code="too_large", detail=detail)
    detail = f"a header is longer than {MAX_HEADER_BYTES} bytes"
    return Problem(status=431, code="too_large", detail=detail)
