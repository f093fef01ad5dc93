"""Paths as clients write them."""

import aiohttp
import pytest

from tests.support import fleets

stack = fleets.stack("tone,speech", 4, knows_all=True)
http = fleets.http()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/audio/models"),
        ("GET", "/v1/audio/models/"),
        ("HEAD", "/v1/audio/models"),
        ("HEAD", "/v1/audio/voices"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/tts-1/"),
        ("GET", "/v1/voices?model=tts-1"),
        ("GET", "/v1/voices/?model=speech"),
        ("GET", "/livez/"),
        ("GET", "/v1/jobs/"),
    ],
)
async def test_it_is_found(http: aiohttp.ClientSession, method: str, path: str) -> None:
    async with http.request(method, path) as answer:
        assert answer.status == 200


async def test_a_slash_behind_speech_is_no_other_path(http: aiohttp.ClientSession) -> None:
    body = {"model": "tone", "input": "x", "response_format": "pcm"}
    async with http.post("/v1/audio/speech/", json=body) as answer:
        assert answer.status == 200
        assert await answer.read()


async def test_the_document_lists_each_path_once(http: aiohttp.ClientSession) -> None:
    async with http.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    assert not [path for path in paths if path != "/" and path.endswith("/")]


async def test_the_address_itself_leads_to_the_page_of_the_api(http: aiohttp.ClientSession) -> None:
    async with http.get("/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "docs")
    async with http.get("/") as answer:
        assert (answer.status, answer.url.path, answer.content_type) == (200, "/docs", "text/html")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
