"""What a handler says of itself, for people and for `/openapi.json`: stands right above the code it describes."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec
from aiohttp import web

from gateway.access.authenticator import KeyPlace

H = TypeVar("H", bound=Callable[..., Any])

_OPERATION: Final = "__operation__"
JSON: Final = ("application/json",)
SOUND: Final = ("audio/*",)
EVENTS: Final = ("text/event-stream",)
LINES: Final = ("application/x-ndjson",)


class Parameter(msgspec.Struct, frozen=True):
    name: str
    #: A type that msgspec has a schema of, limits included.
    kind: Any
    text: str
    where: Literal["query", "header", "path"] = "query"
    required: bool = False


class Answer(msgspec.Struct, frozen=True):
    text: str
    #: Of a JSON body, an event's data or a line; None: no body, or sound.
    kind: Any = None
    media: tuple[str, ...] = JSON


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    summary: str
    text: str = ""
    body: Any = None
    #: In which forms the body may come.
    body_media: tuple[str, ...] = JSON
    body_required: bool = True
    parameters: tuple[Parameter, ...] = ()
    #: By status; whatever else may be answered is the door's error envelope.
    answers: Mapping[int, Answer] = {}
    #: Whether anybody may ask, key or not.
    is_open: bool = False
    #: Where the caller's key may be.
    key_in: KeyPlace = "head"


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
    key_in: KeyPlace = "head",
) -> Callable[[H], H]:
    """Say of a handler what it takes and answers. `body`: the struct that it decodes."""
    told = Operation(
        summary=summary,
        text=text,
        body=body,
        body_media=body_media,
        body_required=body_required,
        parameters=parameters,
        answers=answers,
        is_open=is_open,
        key_in=key_in,
    )

    def describe(handler: H) -> H:
        setattr(handler, _OPERATION, told)
        return handler

    return describe


def operation_of(handler: object) -> Operation | None:
    """What `handler` says of itself, if anything."""
    told: Operation | None = getattr(handler, _OPERATION, None)
    return told


def open_paths(router: web.UrlDispatcher) -> frozenset[str]:
    """The paths that need no key, whatever the method: each of their handlers is open."""
    by_openness: dict[bool, set[str]] = {True: set(), False: set()}
    for route in router.routes():
        told = operation_of(route.handler)
        if route.resource is not None:
            by_openness[told is not None and told.is_open].add(route.resource.canonical)
    return frozenset(by_openness[True] - by_openness[False])


def key_places(router: web.UrlDispatcher) -> dict[object, KeyPlace]:
    """Where the requests of each handler may bear their key, by handler."""
    described = [(route.handler, operation_of(route.handler)) for route in router.routes()]
    return {handler: told.key_in for handler, told in described if told is not None}
