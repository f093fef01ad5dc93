"""Describes a handler, right above its code: its requests, its responses, and its part of `/openapi.json`."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec
from aiohttp import hdrs, web

from gateway.access.authenticator import KeyPlace

H = TypeVar("H", bound=Callable[..., Any])

_OPERATION: Final = "__operation__"
JSON: Final = ("application/json",)
AUDIO: Final = ("audio/*",)
EVENTS: Final = ("text/event-stream",)
LINES: Final = ("application/x-ndjson",)


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of an operation."""

    name: str
    #: A type that msgspec has a schema of, limits included.
    kind: Any
    text: str
    where: Literal["query", "header", "path"] = "query"
    required: bool = False


class Answer(msgspec.Struct, frozen=True):
    """The response with one status."""

    text: str
    #: Type of a JSON body, of an event's data or of a line; None: no body, or audio.
    kind: Any = None
    media: tuple[str, ...] = JSON


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a handler."""

    summary: str
    text: str = ""
    #: The struct that the handler decodes, if it takes a body.
    body: Any = None
    #: Media types that the body may have.
    body_media: tuple[str, ...] = JSON
    body_required: bool = True
    parameters: tuple[Parameter, ...] = ()
    #: Responses by status. Any other status has an error in the format of the API.
    answers: Mapping[int, Answer] = {}
    #: Whether requests need no key.
    is_open: bool = False
    #: Whether it lists what every caller may see: `--open-lists` makes its path need no key.
    is_list: bool = False
    #: Where the caller's key may be, or whether a link may stand for it.
    key_in: KeyPlace = "head"
    #: Whether a POST or PUT counts against a limit of requests per second. Other methods never do.
    is_counted: bool = True


def operation(
    summary: str,
    *,
    text: str = "",
    body: Any = None,
    body_media: tuple[str, ...] = JSON,
    body_required: bool = True,
    parameters: tuple[Parameter, ...] = (),
    answers: Mapping[int, Answer],
    is_open: bool = False,
    is_list: bool = False,
    key_in: KeyPlace = "head",
    is_counted: bool = True,
) -> Callable[[H], H]:
    """Describe the decorated handler; the arguments are the fields of `Operation`."""
    described = Operation(
        summary=summary,
        text=text,
        body=body,
        body_media=body_media,
        body_required=body_required,
        parameters=parameters,
        answers=answers,
        is_open=is_open,
        is_list=is_list,
        key_in=key_in,
        is_counted=is_counted,
    )

    def describe(handler: H) -> H:
        setattr(handler, _OPERATION, described)
        return handler

    return describe


def operation_of(handler: object) -> Operation | None:
    """The description of `handler`; None if it has none."""
    described: Operation | None = getattr(handler, _OPERATION, None)
    return described


def open_paths(router: web.UrlDispatcher) -> frozenset[str]:
    """The paths that need no key, whatever the method: each of their handlers is open."""
    by_openness: dict[bool, set[str]] = {True: set(), False: set()}
    for route in router.routes():
        described = operation_of(route.handler)
        if route.resource is not None:
            is_open = described is not None and described.is_open
            by_openness[is_open].add(route.resource.canonical)
    return frozenset(by_openness[True] - by_openness[False])


def list_handlers(router: web.UrlDispatcher) -> frozenset[object]:
    """The handlers of lists, which `--open-lists` opens."""
    found = ((route.handler, operation_of(route.handler)) for route in router.routes())
    return frozenset(handler for handler, described in found if described is not None and described.is_list)


def key_places(router: web.UrlDispatcher) -> dict[object, KeyPlace]:
    """Where the requests of each handler may have their key, by handler."""
    described = [(route.handler, operation_of(route.handler)) for route in router.routes()]
    return {handler: each.key_in for handler, each in described if each is not None}


def counted_handlers(router: web.UrlDispatcher) -> frozenset[object]:
    """The handlers whose requests count against a limit of requests per second: they POST or PUT, and make work.

    Such a handler must have no route with another method.
    """
    return frozenset(
        route.handler
        for route in router.routes()
        if route.method in {hdrs.METH_POST, hdrs.METH_PUT}
        and (described := operation_of(route.handler)) is not None
        and described.is_counted
    )
