"""An API over HTTP: its paths, its routes and its format for errors. The native API is the one for all other paths."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.http.problems import Problem, ProblemBody, respond


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign API mapped to our jobs."""

    #: Paths that begin with one of these belong to the dialect, their errors included.
    prefixes: tuple[str, ...]
    routes: Sequence[web.RouteDef]
    #: Makes the response for an error, in the format that the dialect's clients expect.
    refuse: Callable[[Problem], web.Response]
    #: Tag of its operations in `/openapi.json`.
    name: str
    #: Prefix of the names of its schemas there; "" if another dialect of this name has it, else the name is.
    title: str = ""
    #: Schema of the body that `refuse` writes.
    envelope: Any = ProblemBody


#: The native API. `gateway.app` has its routes.
NATIVE: Final = Dialect(prefixes=(), routes=(), refuse=respond, name="native")


def dialect_of(path: str, known: Sequence[Dialect]) -> Dialect:
    """The dialect that `path` belongs to, by the longest prefix; `NATIVE` without one."""
    found = [(len(prefix), each) for each in known for prefix in each.prefixes if path.startswith(prefix)]
    return max(found, key=lambda pair: pair[0])[1] if found else NATIVE
