"""A new dialect is one folder: this one is written to a temporary place, and nothing else of the gateway changes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway.dialects
from bus.access.keys import Keys, Limits
from bus.jobs.client import Bus
from bus.settings import BusSettings
from tests.support.doors import gateway_here
from tests.support.programs import Fleet
from tests.support.waiting import eventually

ERRORS = '''
"""The envelope for errors of Jukebox's API, and an error that no other API has."""

from http import HTTPStatus

import msgspec
from aiohttp import web

from gateway.http.problems import GatewayError, Problem


class UnknownSinger(GatewayError):
    """No singer has this name."""

    status = HTTPStatus.PAYMENT_REQUIRED
    code = "no_such_singer"
    path = "singer"


class ErrorResponse(msgspec.Struct):
    """The body of an error."""

    oops: str
    reason: str


def refuse(problem: Problem) -> web.Response:
    """A response to a failed request."""
    body = ErrorResponse(oops=problem.code, reason=problem.detail)
    return web.Response(status=problem.status, body=msgspec.json.encode(body), content_type="application/json")
'''

ROUTES = '''
"""Jukebox's API: lyrics and a coin, which is a key, in; a song out."""

from typing import Any

import msgspec
from aiohttp import web

from gateway.access.caller import CALLER
from gateway.api.job_fields import JobOptions, build_job, our_model, our_voice
from gateway.codecs import format_named
from gateway.dialects.jukebox.errors import ErrorResponse, UnknownSinger, refuse
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import AUDIO, Answer, operation
from gateway.http.responses import json_response
from gateway.http.services import AUTHENTICATOR, JOBS
from gateway.streaming.live import respond

#: Jukebox's names of voices. Each stands for the model's default voice.
SINGERS = {"elvira", "frank"}


class Song(msgspec.Struct, frozen=True):
    """A request: the text, who sings it, and the key."""

    lyrics: str
    singer: str = "elvira"
    coin: str = ""


SONG = Body(Song)


@operation("Sing a song.", body=Song, answers={200: Answer("A WAV file.", None, AUDIO)}, key_in="body")
async def play(request: web.Request) -> web.StreamResponse:
    """`POST /jukebox/play`: the song as a WAV file, as it is made."""
    data = await request.read()
    song = SONG.read(data)
    request[CALLER] = request.app[AUTHENTICATOR].authenticate_body(request, song.coin, "a `coin`")
    if song.singer not in SINGERS:
        raise UnknownSinger(f"singer: {song.singer} does not sing here")
    jobs = request.app[JOBS]
    model = our_model(request, "tone")
    voice = our_voice(song.singer, SINGERS, jobs.card(model.model, model.version))
    job = build_job(request, "jukebox", JobOptions(), model, input=song.lyrics, voice=voice)
    job = jobs.validate(job, streams=True, size_hint_bytes=len(data))
    return await respond(request, job, format_named("wav", "format"))


@operation("List the singers.", answers={200: Answer("Their names.", list[str])}, is_open=True)
async def singers(request: web.Request) -> web.Response:
    """`GET /jukebox/singers`."""
    return json_response(sorted(SINGERS))


DIALECT = Dialect(
    name="jukebox",
    prefixes=("/jukebox/",),
    routes=(web.post("/jukebox/play", play), web.get("/jukebox/singers", singers)),
    refuse=refuse,
    envelope=ErrorResponse,
)
'''


@pytest.fixture
def jukebox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The dialect, where the gateway looks for dialects."""
    package = tmp_path / "jukebox"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "errors.py").write_text(ERRORS)
    (package / "routes.py").write_text(ROUTES)
    monkeypatch.setattr(gateway.dialects, "__path__", [*gateway.dialects.__path__, str(tmp_path)])
    yield
    monkeypatch.delattr(gateway.dialects, "jukebox", raising=False)
    for name in [name for name in sys.modules if name.startswith("gateway.dialects.jukebox")]:
        del sys.modules[name]


async def test_a_dialect_is_one_folder(jukebox: None, bus: Bus, bus_settings: BusSettings, fleet: Fleet) -> None:
    fleet.worker("w1", "tone", 2)
    _, key = await Keys(bus).create("acme", Limits())
    song = {"lyrics": "One for my baby", "singer": "frank", "coin": key}
    async with gateway_here(bus_settings, anonymous=False) as (gateway, http):
        await gateway.keys.refresh()
        await eventually(lambda: gateway.fleet.card("tone"), 30)
        async with http.get("/jukebox/singers") as response:
            assert await response.json() == ["elvira", "frank"]
        async with http.post("/jukebox/play", json=song) as response:
            assert (response.status, response.content_type) == (200, "audio/wav"), await response.text()
            assert (await response.read()).startswith(b"RIFF")
            job_id = response.headers["Antiphon-Job"]
        for wrong, status, name in (
            ({"coin": ""}, 401, "unauthorized"),
            ({"singer": "caruso"}, 402, "no_such_singer"),
            ({"lyrics": "\0"}, 422, "invalid"),
            ({"lyrics": 7}, 422, "invalid"),
        ):
            async with http.post("/jukebox/play", json=song | wrong) as response:
                assert (response.status, (await response.json())["oops"]) == (status, name), await response.text()
        async with http.get("/openapi.json") as response:
            document = await response.json()
    birth = await bus.logs.birth(bus.subjects.job_key("acme", job_id))
    assert birth is not None
    assert (birth[1].job.client.api, birth[1].job.voice) == ("jukebox", "")
    described = document["paths"]["/jukebox/play"]["post"]
    envelope = described["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert described["tags"] == ["jukebox"]
    assert list(document["components"]["schemas"][envelope]["properties"]) == ["oops", "reason"]
