"""A foreign API mapped to our jobs: its paths, its routes and its envelope for errors."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from gateway.http.problems import Problem, ProblemBody, respond


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign API mapped to our jobs."""

    #: Paths that begin with one of these belong to the dialect, their errors included.
    prefixes: tuple[str, ...]
    routes: Sequence[web.RouteDef]
    #: Makes the response for an error, in the envelope that its clients expect.
    refuse: Callable[[Problem], web.Response]
    #: Tag of its operations in `/openapi.json`.
    name: str = "native"
    #: Schema of the body that `refuse` answers with.
    envelope: Any = ProblemBody


def dialect_of(path: str, known: Sequence[Dialect]) -> Dialect | None:
    """The dialect that `path` belongs to, by the longest prefix; None for a path of the native API."""
    found = [(len(prefix), each) for each in known for prefix in each.prefixes if path.startswith(prefix)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


class Envelopes:
    """Writes an error in the envelope of the API that the path belongs to."""

    def __init__(self, known: Sequence[Dialect]) -> None:
        self._known = known

    def refuse(self, path: str, problem: Problem) -> web.Response:
        dialect = dialect_of(path, self._known)
        return dialect.refuse(problem) if dialect is not None else respond(problem)
