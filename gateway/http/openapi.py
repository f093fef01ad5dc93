"""`/openapi.json`: OpenAPI 3.1 of every route, made from the descriptions and the structs of the handlers."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

from aiohttp import web

from gateway.http.dialect import Dialect, dialect_of
from gateway.http.headers import JOB_HEADER, MARKED_HEADER, VOICE_HEADER
from gateway.http.operation import EVENTS, Answer, Operation, Parameter, operation, operation_of
from gateway.http.problems import ProblemBody
from gateway.http.schemas import schemas_of

_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
#: Generators of clients make bytes of it.
_BINARY: Final = {"type": "string", "format": "binary"}
#: Schema of a path's variable that its handler does not describe.
_TOKEN: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_ABOUT: Final = """\
Generative audio from a fleet of GPUs over a durable bus. Every response that concerns a job has the header
`Antiphon-Job`: with it a client that lost its connection can fetch the audio at `/v1/jobs/{id}/audio`.
"""
_WORD: Final = re.compile(r"[A-Za-z0-9]+")
DOCUMENT: Final = web.AppKey("openapi", bytes)


class Undescribed(Exception):
    """A route has a handler without `@operation`."""


def describe(router: web.UrlDispatcher, dialects: Sequence[Dialect]) -> dict[str, Any]:
    """The document. Raises Undescribed for the first route whose handler has no description."""
    operations = list(_operations(router))
    kinds = _kinds(each for _, _, each in operations)
    kinds |= {str(kind): kind for kind in (ProblemBody, *(dialect.envelope for dialect in dialects))}
    schemas, components = schemas_of(kinds.values(), {each.name: each.title for each in dialects if each.title})
    schemas[str(bytes)] = _BINARY  # a file as it is, where JSON would have base64
    paths: dict[str, Any] = {}
    for path, method, each in operations:
        dialect = dialect_of(path, dialects)
        error = (_PROBLEM if dialect.envelope is ProblemBody else _JSON, dialect.envelope)
        shown = {"operationId": _operation_id(path, method), **_operation(path, each, schemas, dialect.name, error)}
        paths.setdefault(path, {})[method] = shown
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Antiphon",
            "version": version("antiphon"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"xiApiKey": []}, {}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a JWT."},
                "xiApiKey": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
            },
        },
    }


def _operations(router: web.UrlDispatcher) -> Iterable[tuple[str, str, Operation]]:
    """(path, method, description of the handler) of each route but HEAD, which goes with GET."""
    for route in router.routes():
        assert route.resource is not None
        described = operation_of(route.handler)
        if described is None:
            raise Undescribed(f"{route.method} {route.resource.canonical}: its handler has no @operation")
        if route.method != "HEAD":
            yield route.resource.canonical, route.method.lower(), described


def _kinds(operations: Iterable[Operation]) -> dict[str, Any]:
    """Every type whose schema is needed, by name."""
    found: dict[str, Any] = {}
    for each in operations:
        kinds = [
            each.body,
            *(parameter.kind for parameter in each.parameters),
            *(answer.kind for answer in each.answers.values()),
        ]
        found |= {str(kind): kind for kind in kinds if kind is not None}
    return found


def _operation(
    path: str, each: Operation, schemas: Mapping[str, Any], tag: str, error: tuple[str, Any]
) -> dict[str, Any]:
    media, envelope = error
    shown: dict[str, Any] = {
        "summary": each.summary,
        "tags": [tag],
        "parameters": _parameters(path, each.parameters, schemas),
        "responses": {str(status): _answer(answer, schemas) for status, answer in each.answers.items()},
    }
    shown["responses"]["default"] = {
        "description": "An error, in the format of this API.",
        "content": {media: {"schema": schemas[str(envelope)]}},
    }
    if each.text:
        shown["description"] = each.text
    if each.is_open:
        shown["security"] = []
    if each.body is not None:
        content = {media: {"schema": schemas[str(each.body)]} for media in each.body_media}
        shown["requestBody"] = {"required": each.body_required, "content": content}
    return shown


def _parameters(path: str, described: Sequence[Parameter], schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    known = {each.name: each for each in described}
    undescribed = [part[1:-1].partition(":")[0] for part in path.replace("}", "}/").split("/") if part.startswith("{")]
    shown: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _TOKEN} for name in undescribed if name not in known
    ]
    shown += [
        {
            "name": each.name,
            "in": each.where,
            "required": each.required or each.where == "path",
            "description": each.text,
            "schema": schemas[str(each.kind)],
        }
        for each in described
    ]
    return shown


def _answer(answer: Answer, schemas: Mapping[str, Any]) -> dict[str, Any]:
    described = {
        JOB_HEADER: "The job that this response concerns.",
        VOICE_HEADER: "The voice that speaks, with its model, version and digest; absent without a voice.",
    }
    if answer.media and answer.media[0].startswith("audio/"):
        described[MARKED_HEADER] = "How the audio is marked as synthetic: `tag`, `inaudible`, both, or `none`."
    headers = {name: {"schema": {"type": "string"}, "description": text} for name, text in described.items()}
    shown: dict[str, Any] = {"description": answer.text, "headers": headers}
    if answer.kind is not None:
        shown["content"] = {media: _content(media, schemas[str(answer.kind)]) for media in answer.media}
    elif answer.media[0].startswith("audio/"):
        shown["content"] = {media: {"schema": _BINARY} for media in answer.media}
    return shown


def _content(media: str, schema: Any) -> dict[str, Any]:
    if media.startswith("audio/"):
        return {"schema": _BINARY}
    if media not in EVENTS:
        return {"schema": schema}
    data = {"type": "string", "contentMediaType": _JSON, "contentSchema": schema}
    text = {"type": "string"}
    return {"schema": {"type": "object", "properties": {"id": text, "event": text, "data": data}}}


def _operation_id(path: str, method: str) -> str:
    """A unique name for the functions of generated clients: `get_jobs_by_id_audio`."""
    words = path.removeprefix("/v1").replace("{", "by_").replace("}", "")
    return f"{method}_{'_'.join(_WORD.findall(words)) or 'root'}"


@operation("Show this API.", answers={200: Answer("HTML.", str, ("text/html",))}, is_open=True)
async def page(request: web.Request) -> web.Response:
    """`GET /docs`: the document as a page; it loads nothing from other hosts."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
    return web.Response(body=_page(), content_type="text/html", charset="utf-8", headers=headers)


@operation("Go to the page that shows this API.", answers={302: Answer("To `/docs`.")}, is_open=True)
async def root(request: web.Request) -> web.Response:
    """`GET /`: the address that `antiphon up` prints. The target is relative, for proxies that add a prefix."""
    return web.Response(status=HTTPStatus.FOUND, headers={"Location": "docs", "Cache-Control": "no-cache"})


@functools.cache
def _page() -> bytes:
    return (files("gateway") / "pages" / "docs.html").read_bytes()


@operation("Describe this API.", answers={200: Answer("OpenAPI 3.1.", dict[str, Any])}, is_open=True)
async def document(request: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    return web.Response(body=request.app[DOCUMENT], content_type="application/json")
