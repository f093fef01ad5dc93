"""The key that a handler's requests need, as its `@operation` says."""

from typing import Any
from unittest.mock import MagicMock

import pytest
from aiohttp import web

from gateway.app import make_app
from gateway.http.operation import Answer, key_places, open_paths, operation


@pytest.fixture(scope="module")
def router() -> web.UrlDispatcher:
    return make_app(MagicMock()).router


def test_only_these_paths_are_open(router: web.UrlDispatcher) -> None:
    assert open_paths(router) == {"/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs"}


def test_only_these_paths_take_a_key_beside_the_head(router: web.UrlDispatcher) -> None:
    places = key_places(router)
    found = {
        (route.method, route.resource.canonical): places[route.handler]
        for route in router.routes()
        if route.resource is not None and places[route.handler] != "head"
    }
    assert found == {
        ("GET", "/v1/text-to-speech/{voice_id}/stream-input"): "message",
        ("POST", "/release_task"): "body",
        ("POST", "/query_result"): "body",
    }


async def test_a_path_with_a_handler_that_needs_a_key_is_not_open() -> None:
    @operation("Open.", answers={200: Answer("It is.")}, is_open=True)
    async def show(_: web.Request) -> web.Response:
        return web.Response()

    @operation("Not open.", answers={200: Answer("It is.")})
    async def change(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    routes: list[Any] = [web.get("/open", show), web.get("/both", show), web.post("/both", change)]
    app.add_routes(routes)
    assert open_paths(app.router) == {"/open"}
