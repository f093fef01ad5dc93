"""Parts of a finished body: `Range`, `If-Range`, `If-None-Match` (RFC 9110). Pure."""

import re
from collections.abc import Mapping

import msgspec

from gateway.http.problems import RangeRefused

_ONE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


class Part(msgspec.Struct, frozen=True):
    """Bytes `start` to `stop` (not included) of `size`."""

    start: int
    stop: int
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole body."""
        return self.stop - self.start == self.size

    @property
    def content_range(self) -> str:
        """The value of `Content-Range`."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def part(headers: Mapping[str, str], size: int, etag: str) -> tuple[Part, bool]:
    """The part of a body of `size` bytes to respond with, and whether it is the response to a Range (206).

    A Range of several parts, in another unit, or of another version is ignored, as the RFC allows: the whole is a
    correct response to it. Raises RangeRefused if no byte of the range exists.
    """
    whole = Part(0, size, size)
    wanted = headers.get("Range")
    if wanted is None or headers.get("If-Range", etag) != etag:
        return whole, False
    match = _ONE.fullmatch(wanted)
    if match is None or not (match[1] or match[2]):
        return whole, False
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return whole, False
    if start >= stop:
        raise RangeRefused(wanted, size)
    return Part(start, stop, size), True


def is_unchanged(headers: Mapping[str, str], etag: str) -> bool:
    """Whether `If-None-Match` names `etag`."""
    known = headers.get("If-None-Match")
    if known is None:
        return False
    return known.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in known.split(","))
