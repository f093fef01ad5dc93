"""What a wire dialect is, and which there are: every module of this package that has a `DIALECT`."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

import gateway.dialects
from gateway.http.problems import Problem, ProblemBody, respond


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign API mapped to our jobs."""

    #: Paths below these are the dialect's, errors included.
    prefixes: tuple[str, ...]
    routes: Sequence[web.RouteDef]
    #: Its own envelope for an error.
    refuse: Callable[[Problem], web.Response]
    #: As `/openapi.json` calls it.
    name: str = "native"
    #: The shape of what `refuse` answers.
    envelope: Any = ProblemBody


def dialects() -> list[Dialect]:
    """Every dialect there is, in the order of its module's name."""
    prefix = f"{gateway.dialects.__name__}."
    names = sorted(module.name for module in pkgutil.walk_packages(gateway.dialects.__path__, prefix))
    modules = [importlib.import_module(name) for name in names]
    return [module.DIALECT for module in modules if hasattr(module, "DIALECT")]


def door_of(path: str, known: Sequence[Dialect]) -> Dialect | None:
    """The dialect that `path` belongs to, by the longest prefix; None for a path of the native API."""
    found = [(len(prefix), dialect) for dialect in known for prefix in dialect.prefixes if path.startswith(prefix)]
    return max(found, key=lambda each: each[0])[1] if found else None


class Envelopes:
    """Which error goes out in which envelope."""

    def __init__(self, known: Sequence[Dialect]) -> None:
        self._known = known

    def refuse(self, path: str, problem: Problem) -> web.Response:
        door = door_of(path, self._known)
        return door.refuse(problem) if door is not None else respond(problem)
