"""A route: from a name that requests have for a model to targets with weights, and the choice among them. Pure."""

import hashlib
import math
import re
from datetime import datetime
from typing import Final

import msgspec

from bus import wire
from bus.errors import Invalid, Malformed
from bus.params import short
from bus.route_names import MAX_NAME_CHARS, is_route_name
from bus.subjects import is_token
from bus.telemetry.logging import logger
from bus.transport.direct import Stored

log = logger(__name__)

#: Targets of one route.
MAX_TARGETS: Final = 32
MAX_WEIGHT: Final = 1e6
#: Characters of a reason.
MAX_WHY_CHARS: Final = 500
#: Requests of one session go to one target; those without a session are chosen for one by one.
BY_SESSION: Final = "session"
#: All requests of one tenant go to one target.
BY_TENANT: Final = "tenant"
#: Before the name of a header: requests with one value of it go to one target.
BY_HEADER: Final = "header:"
#: The header that names a session.
SESSION_HEADER: Final = "X-Session-Id"

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model that may answer."""

    #: A model of ours.
    model: str
    #: Its version; "": as for a request that names the model and no version.
    version: str = ""
    #: Share of the requests is this over the sum of all weights; 0: none.
    weight: float

    @property
    def name(self) -> str:
        """`model@version`, as commands write it."""
        return f"{self.model}@{self.version}"


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who made a route as it is, when and why."""

    #: Changes of this route so far, this one included: its revision, from 1.
    revision: int
    #: By the bus's clock.
    at: datetime
    #: `user@host` of the command.
    by: str
    why: str = ""
    #: The revision that an undo has restored, 0 for the time before the first; None: not an undo.
    restores: int | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored record of a route, one for each change."""

    name: str
    #: Empty: the route was removed.
    targets: list[Target] = []
    #: `session`, `tenant` or `header:NAME`.
    sticky: str = BY_SESSION
    change: Change

    @property
    def sticky_header(self) -> str:
        """The name of the header that requests of one target share; "" for a route by tenant."""
        if self.sticky == BY_SESSION:
            return SESSION_HEADER
        return self.sticky.removeprefix(BY_HEADER) if self.sticky.startswith(BY_HEADER) else ""


def choose(name: str, targets: list[Target], key: str) -> Target:
    """The target of requests with this key, by weighted rendezvous hashing: the greatest `-weight / ln(u)`.

    `u` in (0, 1) is a hash of name, key and target, so every process makes the same choice. When weights change, keys
    move only to targets whose share has grown. `targets`: not empty; if all weights are 0, the first.

    Source: Mosharaf, Resch, "Weighted distributed hash tables", SNIA 2015; Schindelhauer, Schomaker, SPAA 2005.
    """
    weighted = [target for target in targets if target.weight > 0] or targets[:1]
    if len(weighted) == 1:
        return weighted[0]
    return max(weighted, key=lambda target: -target.weight / math.log(_uniform(f"{name}\0{key}\0{target.name}")))


def _uniform(text: str) -> float:
    """A number in (0, 1) that depends on `text` alone: 52 bits of its hash, and a half."""
    bits = int.from_bytes(hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=8).digest()) >> 12
    return (bits + 0.5) / (1 << 52)


def check(route: Route) -> None:
    """Raise Invalid, with field, limit and value, for a route that cannot be stored. One that is removed is valid."""
    if not is_route_name(route.name):
        limit = f"1 to {MAX_NAME_CHARS} characters of A-Z a-z 0-9 _ - / = and single dots"
        raise Invalid(f"name: {short(route.name)!r} must be {limit}", "name")
    _check_sticky(route.sticky)
    if len(route.change.why) > MAX_WHY_CHARS:
        raise Invalid(f"why: has {len(route.change.why)} characters, the limit is {MAX_WHY_CHARS}", "why")
    if route.targets:
        check_targets(route.targets)


def check_targets(targets: list[Target]) -> None:
    """Raise Invalid, with limit and value, for targets that a route cannot have; it needs one."""
    if not 1 <= len(targets) <= MAX_TARGETS:
        raise Invalid(f"targets: there are {len(targets)}, a route has 1 to {MAX_TARGETS}", "targets")
    names: set[str] = set()
    for target in targets:
        _check_target(target)
        if target.name in names:
            raise Invalid(f"targets: {target.name!r} is named twice", "targets")
        names.add(target.name)
    if not any(target.weight for target in targets):
        raise Invalid("targets: every weight is 0, so no target would answer; one must be more", "targets")


def _check_target(target: Target) -> None:
    if not is_token(target.model) or not (target.version == "" or is_token(target.version)):
        limit = "1 to 64 characters of A-Z a-z 0-9 _ -"
        raise Invalid(
            f"targets: {short(target.name)!r}: model and version must each be {limit}; MODEL@VERSION names both",
            "targets",
        )
    if not 0 <= target.weight <= MAX_WEIGHT:
        raise Invalid(f"targets: weight of {target.name}: {target.weight:g} is not 0 to {MAX_WEIGHT:g}", "targets")


def _check_sticky(sticky: str) -> None:
    header = sticky.removeprefix(BY_HEADER)
    if sticky in {BY_SESSION, BY_TENANT} or (header != sticky and _HEADER_NAME.fullmatch(header)):
        return
    raise Invalid(
        f"sticky: {short(sticky)!r} is not {BY_SESSION}, {BY_TENANT} or {BY_HEADER}NAME, with the name of a header: at "
        "most 64 characters of A-Z a-z 0-9 -",
        "sticky",
    )


def read(stored: Stored, prefix: str) -> Route | None:
    """The record in an entry of the bucket; None, which is logged, if it is malformed or deleted by hand.

    `prefix`: what the name follows in the entry's subject.
    """
    if stored.message.header("KV-Operation") is not None:
        return None
    name = stored.message.subject.removeprefix(prefix)
    try:
        route = wire.decode(Route, stored.message.data)
        if route.name != name:
            raise Malformed(f"the record has the name {short(route.name)!r}")
        check(route)
    except (Malformed, Invalid) as error:
        log.warning("routes.entry_invalid", route=name, error=str(error))
        return None
    return route
