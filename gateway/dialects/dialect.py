"""What a wire dialect is, and which there are: every module of this package that has a `DIALECT`."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web

import gateway.dialects
from gateway.problems import Problem, respond


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign API mapped to our jobs."""

    #: Paths below these are the dialect's, errors included.
    prefixes: tuple[str, ...]
    routes: Sequence[web.RouteDef]
    #: Its own envelope for an error.
    refuse: Callable[[Problem], web.Response]


def dialects() -> list[Dialect]:
    """Every dialect there is, in the order of its module's name."""
    names = sorted(module.name for module in pkgutil.iter_modules(gateway.dialects.__path__))
    modules = [importlib.import_module(f"{gateway.dialects.__name__}.{name}") for name in names]
    return [module.DIALECT for module in modules if hasattr(module, "DIALECT")]


class Envelopes:
    """Which error goes out in which envelope."""

    def __init__(self, known: Sequence[Dialect]) -> None:
        self._by_prefix = [(prefix, dialect.refuse) for dialect in known for prefix in dialect.prefixes]

    def refuse(self, path: str, problem: Problem) -> web.Response:
        for prefix, refuse in self._by_prefix:
            if path.startswith(prefix):
                return refuse(problem)
        return respond(problem)
