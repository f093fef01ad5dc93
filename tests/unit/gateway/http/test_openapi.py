"""`/openapi.json`: every route is described, and every type that a handler decodes."""

import json
import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import jsonschema
import msgspec
import pytest
from aiohttp import web

from gateway.app import make_app
from gateway.dialects.registry import dialects
from gateway.http.openapi import DOCUMENT, Undescribed, describe
from gateway.http.schemas import SameName, schemas_of


@pytest.fixture(scope="module")
def app() -> web.Application:
    return make_app(MagicMock())


@pytest.fixture(scope="module")
def document(app: web.Application) -> dict[str, Any]:
    return dict(json.loads(app[DOCUMENT]))


def test_every_route_of_every_api_is_in_it(app: web.Application, document: dict[str, Any]) -> None:
    routed = {
        (route.resource.canonical.rstrip("/") or "/", route.method.lower())
        for route in app.router.routes()
        if route.resource
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == {(path, method) for path, method in routed if method != "head"}
    tags = {tag for methods in document["paths"].values() for each in methods.values() for tag in each["tags"]}
    assert tags == {"native", *(dialect.name for dialect in dialects())}
    assert len(described) > 35


def test_a_file_is_binary_in_both_directions(document: dict[str, Any]) -> None:
    sent = document["paths"]["/v1/blobs"]["put"]["requestBody"]["content"]
    received = document["paths"]["/v1/blobs/{digest}"]["get"]["responses"]["200"]["content"]
    assert sent == received == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


async def test_a_route_without_a_description_starts_no_gateway() -> None:
    async def silent(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/v1/silent", silent)])
    with pytest.raises(Undescribed, match="/v1/silent"):
        describe(app.router, [])


def test_its_references_lead_somewhere_and_its_schemas_are_schemas(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    named = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            named.update([node["$ref"]] if "$ref" in node else [])
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(document)
    assert {name.removeprefix("#/components/schemas/") for name in named} == set(schemas)


def test_a_paths_variables_are_its_parameters(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        in_path = {part.partition("}")[0] for part in path.split("{")[1:]}
        for each in methods.values():
            assert {parameter["name"] for parameter in each["parameters"] if parameter["in"] == "path"} == in_path, path


@pytest.mark.parametrize(
    ("path", "method", "field", "limits"),
    [
        ("/v1/jobs", "post", "linger_s", {"minimum": 0, "maximum": 3600}),
        ("/v1/jobs", "post", "lane", {"enum": ["", "interactive", "standard", "batch"]}),
        ("/v1/audio/speech", "post", "input", {"minLength": 1}),
    ],
)
def test_the_limits_that_validation_checks_are_described(
    document: dict[str, Any], path: str, method: str, field: str, limits: dict[str, Any]
) -> None:
    schema = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    described = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"][field]
    assert {name: described[name] for name in limits} == limits


def test_the_errors_of_an_api_have_its_own_format(document: dict[str, Any]) -> None:
    def envelope(path: str, method: str) -> list[str]:
        return list(document["paths"][path][method]["responses"]["default"]["content"])

    assert envelope("/v1/jobs", "post") == envelope("/generate", "post") == ["application/problem+json"]
    assert envelope("/v1/audio/speech", "post") == envelope("/release_task", "post") == ["application/json"]


def test_operations_that_need_no_key_are_marked(document: dict[str, Any]) -> None:
    open_to_all = {
        path for path, methods in document["paths"].items() for each in methods.values() if "security" in each
    }
    assert open_to_all == {"/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs", "/"}


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the document, with its path."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from nodes(value, f"{path}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from nodes(value, f"{path}/{number}")


def test_generators_find_a_unique_name_for_each_schema_and_none_of_our_modules(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert [schema["title"] for schema in schemas.values()] == list(schemas)
    assert all(re.fullmatch("[A-Z][A-Za-z0-9]*", name) for name in schemas)
    assert {"OpenAISpeechRequest", "ElevenLabsSpeechRequest", "AceStepTaskRequest", "HttpJobRequest"} < set(schemas)


def test_each_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(set(names)) == len(names)
    assert {"post_audio_speech", "get_jobs_by_id_audio", "get_voices", "get_v2_voices"} < set(names)
    assert all(re.fullmatch("[A-Za-z0-9_]+", name) for name in names)


def test_generators_get_bytes_for_audio_open_objects_and_no_type_that_is_only_null(document: dict[str, Any]) -> None:
    for path, node in nodes(document):
        for media, content in node.get("content", {}).items() if isinstance(node.get("content"), dict) else ():
            if media.startswith("audio/"):
                assert content == {"schema": {"type": "string", "format": "binary"}}, path
        if node.get("type") == "object":
            assert "properties" in node or "additionalProperties" in node, path
        if node.get("type") == "null":
            assert "/anyOf/" in path, path


def test_two_structs_of_one_name_in_one_dialect_start_no_gateway() -> None:
    kinds = [msgspec.defstruct("Same", [("x", int)], module=f"gateway.dialects.openai.{name}") for name in "ab"]
    with pytest.raises(SameName, match="'OpenAISame'"):
        schemas_of(kinds, {"openai": "OpenAI"})
