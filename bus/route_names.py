"""Every subject and stream name of the routes.

    $KV.<ROOT>_ROUTES.<name>     KV bucket: the route of one name of a model, its last changes included
    <root>.route.<name>          republish of those, without the record

A name is a key of NATS' KV, so it may have dots and slashes, as names of models have: `hexgrad/Kokoro-82M`.
Source: NATS ADR-8, "JetStream based Key-Value Stores".
"""

import re
from functools import cached_property
from typing import Final

import msgspec

MAX_NAME_CHARS: Final = 128
_NAME: Final = re.compile(r"[A-Za-z0-9_=/-]+(\.[A-Za-z0-9_=/-]+)*")


def is_route_name(text: str) -> bool:
    """Whether `text` can be the name of a route: a key of NATS' KV of at most `MAX_NAME_CHARS`."""
    return len(text) <= MAX_NAME_CHARS and _NAME.fullmatch(text) is not None


class RouteNames(msgspec.Struct, frozen=True, dict=True):
    """Names of one deployment."""

    root: str

    @cached_property
    def bucket(self) -> str:
        """KV bucket of the routes."""
        return f"{self.root.upper()}_ROUTES"

    @cached_property
    def stream(self) -> str:
        """Stream of that bucket."""
        return f"KV_{self.bucket}"

    @cached_property
    def prefix(self) -> str:
        """Beginning of the subject of a route, before its name."""
        return f"$KV.{self.bucket}."

    @cached_property
    def everything(self) -> str:
        """Filter for all routes."""
        return f"{self.prefix}>"

    def route(self, name: str) -> str:
        """Subject of one route. Raises ValueError if `name` can be none."""
        if not is_route_name(name):
            raise ValueError(
                f"{name[:80]!r} must be 1 to {MAX_NAME_CHARS} characters of A-Z a-z 0-9 _ - / = and single dots"
            )
        return f"{self.prefix}{name}"

    @cached_property
    def changes(self) -> str:
        """Filter for notifications that a route was changed."""
        return f"{self.root}.route.>"

    @cached_property
    def republish(self) -> tuple[str, str]:
        """(source, destination) of the republish of changed routes."""
        return self.everything, self.changes
