"""The descriptions of handlers: which need a key, where it may be, and which count against limits."""

from typing import Any
from unittest.mock import MagicMock

import pytest
from aiohttp import web

from gateway.app import make_app
from gateway.http.operation import Answer, counted_handlers, key_places, list_handlers, open_paths, operation


@pytest.fixture(scope="module")
def router() -> web.UrlDispatcher:
    return make_app(MagicMock()).router


def test_only_these_paths_are_open(router: web.UrlDispatcher) -> None:
    found = open_paths(router)
    assert {path for path in found if path == "/" or not path.endswith("/")} == {
        *("/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs", "/")
    }
    assert {path.rstrip("/") or "/" for path in found if path.endswith("/")} < found, (
        "with a slash behind it, each is the same"
    )


def test_only_these_paths_take_a_key_beside_the_head(router: web.UrlDispatcher) -> None:
    places = key_places(router)
    found = {
        (route.method, route.resource.canonical.rstrip("/")): places[route.handler]
        for route in router.routes()
        if route.resource is not None and places[route.handler] != "head"
    }
    assert found == {
        ("GET", "/v1/text-to-speech/{voice_id}/stream-input"): "message",
        ("GET", "/v1/text-to-speech/{voice_id}/multi-stream-input"): "message",
        ("GET", "/v1/text-to-dialogue/multi-stream-input"): "message",
        ("GET", "/v1/jobs/{id}/audio"): "audio_link",
        ("HEAD", "/v1/jobs/{id}/audio"): "audio_link",
        ("GET", "/output/{id}.wav"): "audio_link",
        ("HEAD", "/output/{id}.wav"): "audio_link",
        ("GET", "/v1/jobs/{id}/events"): "events_link",
        ("GET", "/v1/jobs/{id}/marks"): "events_link",
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


async def test_a_list_is_open_by_its_handler_whatever_else_its_path_does(router: web.UrlDispatcher) -> None:
    lists = list_handlers(router)
    found = {
        (route.method, route.resource.canonical)
        for route in router.routes()
        if route.handler in lists and route.resource
    }
    assert {("GET", "/v1/audio/voices"), ("GET", "/v1/models"), ("GET", "/v1/voices")} <= found
    assert {method for method, _ in found} <= {"GET", "HEAD"}


async def test_posts_and_puts_are_counted_unless_their_operation_is_not() -> None:
    @operation("Counted.", answers={200: Answer("Done.")})
    async def make(_: web.Request) -> web.Response:
        return web.Response()

    @operation("Not counted.", answers={200: Answer("Done.")}, is_counted=False)
    async def query(_: web.Request) -> web.Response:
        return web.Response()

    @operation("Read only.", answers={200: Answer("Done.")})
    async def show(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/make", make), web.put("/make", make), web.get("/make", show), web.post("/query", query)])
    assert counted_handlers(app.router) == {make}


def test_no_handler_that_is_counted_serves_another_method(router: web.UrlDispatcher) -> None:
    counted = counted_handlers(router)
    assert {route.method for route in router.routes() if route.handler in counted} == {"POST", "PUT"}
