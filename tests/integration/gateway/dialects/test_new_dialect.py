"""A new dialect is one folder: this one is written to a temporary place, and nothing else of the gateway changes."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

import gateway.dialects
from bus.access.keys import Keys, Limits
from bus.jobs.client import Bus
from bus.settings import BusSettings
from gateway.app import make_app
from gateway.compose import compose
from gateway.settings import GatewaySettings
from tests.support.programs import Fleet

ERRORS = '''
"""Jukebox' envelope for errors, and an error that no other API has."""

from http import HTTPStatus

import msgspec
from aiohttp import web

from gateway.http.problems import GatewayError, Problem


class UnknownSinger(GatewayError):
    """Nobody of this name sings here."""

    status = HTTPStatus.PAYMENT_REQUIRED
    code = "no_such_singer"
    path = "singer"


class Refusal(msgspec.Struct):
    """The body of an error."""

    oops: str
    reason: str


def refuse(problem: Problem) -> web.Response:
    """A response to a failed request."""
    body = Refusal(oops=problem.code, reason=problem.detail)
    return web.Response(status=problem.status, body=msgspec.json.encode(body), content_type="application/json")
'''

ROUTES = '''
"""Jukebox' API: coins, which are keys, and songs in, WAV out."""

from typing import Any

import msgspec
from aiohttp import web

from gateway.access.caller import CALLER
from gateway.api.job_fields import JobOptions, build_job, our_voice
from gateway.codecs import format_named
from gateway.dialects.jukebox.errors import Refusal, UnknownSinger, refuse
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import SOUND, Answer, operation
from gateway.http.responses import json_response
from gateway.http.services import AUTHENTICATOR, JOBS
from gateway.streaming.live import respond

#: Jukebox' names of voices; each sings with the voice that our model has by default.
SINGERS = {"elvira", "frank"}


class Song(msgspec.Struct, frozen=True):
    """A request: the text, who sings it, and the key."""

    lyrics: str
    singer: str = "elvira"
    coin: str = ""


_body = Body(Song)


@operation("A song.", body=Song, answers={200: Answer("A WAV file.", None, SOUND)}, key_in="body")
async def play(request: web.Request) -> web.StreamResponse:
    """`POST /jukebox/play`: the song as a WAV file, as it is made."""
    data = await request.read()
    song = _body.read(data)
    request[CALLER] = request.app[AUTHENTICATOR].authenticate_body(request, song.coin, "a `coin`")
    if song.singer not in SINGERS:
        raise UnknownSinger(f"singer: {song.singer} does not sing here")
    jobs = request.app[JOBS]
    voice = our_voice(song.singer, SINGERS, jobs.card("tone"))
    job = build_job(request, "jukebox", JobOptions(), input=song.lyrics, model="tone", voice=voice)
    job = jobs.validate(job, streams=True, size_hint_bytes=len(data))
    return await respond(request, job, format_named("wav", "format"))


@operation("Who sings.", answers={200: Answer("Their names.", list[str])}, is_open=True)
async def singers(request: web.Request) -> web.Response:
    """`GET /jukebox/singers`."""
    return json_response(sorted(SINGERS))


DIALECT = Dialect(
    name="jukebox",
    prefixes=("/jukebox/",),
    routes=(web.post("/jukebox/play", play), web.get("/jukebox/singers", singers)),
    refuse=refuse,
    envelope=Refusal,
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


@pytest.fixture
async def http(jukebox: None, bus: Bus, bus_settings: BusSettings, fleet: Fleet) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of a gateway with this dialect, which serves no caller without a key, and one worker."""
    fleet.worker("w1", "tone", 2)
    async with asyncio.TaskGroup() as tasks:
        services = compose(bus, GatewaySettings(bus=bus_settings, anonymous=False), tasks)
        running = [tasks.create_task(each) for each in (services.fleet.run(), services.keys.run())]
        async with TestClient(TestServer(make_app(services))) as client:
            async with asyncio.timeout(30):
                while services.fleet.card("tone") is None or not services.keys.is_read:
                    await asyncio.sleep(0.02)
            yield client
        services.interest.close()
        services.deadlines.close()
        for each in running:
            each.cancel()


async def test_a_dialect_is_one_folder(http: TestClient[Any, Any], bus: Bus) -> None:
    _, key = await Keys(bus).create("acme", Limits())
    song = {"lyrics": "One for my baby", "singer": "frank", "coin": key}
    async with http.get("/jukebox/singers") as response:
        assert await response.json() == ["elvira", "frank"]
    async with asyncio.timeout(30):
        while (response := await http.post("/jukebox/play", json=song)).status == 401:  # the key is on its way
            await asyncio.sleep(0.02)
    assert (response.status, response.content_type) == (200, "audio/wav"), await response.text()
    assert (await response.read()).startswith(b"RIFF")
    birth = await bus.logs.birth(bus.subjects.job_key("acme", response.headers["Antiphon-Job"]))
    assert birth is not None
    assert (birth[1].job.client.api, birth[1].job.voice) == ("jukebox", "")

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
    described = document["paths"]["/jukebox/play"]["post"]
    envelope = described["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert (described["tags"], list(document["components"]["schemas"][envelope]["properties"])) == (
        ["jukebox"],
        ["oops", "reason"],
    )
