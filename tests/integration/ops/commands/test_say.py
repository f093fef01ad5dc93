"""`say`, `compose`, `jobs` and `fleet` against a small HTTP server that speaks as the gateway does."""

import asyncio
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ops.commands import show as look
from ops.commands.http import describe
from ops.commands.say import SpeechRequest, fetch, text_of
from ops.errors import OpsError, UsageRefused
from ops.settings import ClientSettings

ROOT = Path(__file__).parents[4]
RATE_HZ = 24_000
PCM = bytes(range(256)) * 94
#: As a server writes it that does not know the length yet.
STREAMING_HEAD = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
STREAMING_HEAD += b"data\xff\xff\xff\xff"


class FakeGateway:
    """Answers as scripted and remembers what it was asked."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, Any]] = []
        self.status = 200
        self.body: Any = None
        self.breaks_off = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.received.append((request.method, str(request.rel_url), json.loads(text) if text else None))
        if self.body is not None:
            return web.json_response(self.body, status=self.status)
        response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
        await response.prepare(request)
        await response.write(STREAMING_HEAD[:30])
        await response.write(STREAMING_HEAD[30:] + PCM[:1000])
        if self.breaks_off:
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(PCM[1000:])
        await response.write_eof()
        return response


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def url(gateway: FakeGateway) -> Iterator[str]:
    """The commands run their own event loop, so the server has a thread of its own."""
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), 0

    async def start() -> web.AppRunner:
        nonlocal port
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", gateway.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(20)
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)


ORDER = SpeechRequest(model="speech", input="Hello", voice="en")


def test_a_sentence_becomes_a_wav_whose_head_tells_its_true_length(
    url: str, gateway: FakeGateway, tmp_path: Path
) -> None:
    file = tmp_path / "a.wav"
    fetch(ClientSettings(url=url), ORDER, str(file), None)
    written = file.read_bytes()
    assert written[44:] == PCM
    assert struct.unpack("<I", written[4:8])[0] == len(written) - 8
    assert struct.unpack("<I", written[40:44])[0] == len(PCM)
    assert gateway.received == [
        ("POST", "/v1/audio/speech", {"model": "speech", "input": "Hello", "voice": "en", "response_format": "wav"})
    ]


def test_music_is_asked_for_with_its_length(url: str, gateway: FakeGateway, tmp_path: Path) -> None:
    fetch(
        ClientSettings(url=url), SpeechRequest(model="music", input="calm", seconds=3.0), str(tmp_path / "a.wav"), None
    )
    assert gateway.received[0][2] == {
        "model": "music",
        "input": "calm",
        "response_format": "wav",
        "params": {"seconds": 3.0},
    }


def test_a_dash_streams_the_answer_unchanged_to_stdout(url: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    fetch(ClientSettings(url=url), ORDER, "-", None)
    assert capfdbinary.readouterr().out == STREAMING_HEAD + PCM


@pytest.mark.parametrize(
    ("output", "form", "asked"),
    [
        ("a.mp3", None, "mp3"),
        ("a.FLAC", None, "flac"),
        ("a.ogg", None, "opus"),
        ("a", None, "wav"),
        ("a.wav", "pcm", "pcm"),
        ("a.xyz", "wav", "wav"),
    ],
)
def test_the_format_follows_the_flag_and_else_the_ending(
    url: str, gateway: FakeGateway, tmp_path: Path, output: str, form: str | None, asked: str
) -> None:
    fetch(ClientSettings(url=url), ORDER, str(tmp_path / output), form)
    assert gateway.received[0][2]["response_format"] == asked


def test_a_format_that_nobody_makes_is_refused_before_asking(url: str, gateway: FakeGateway, tmp_path: Path) -> None:
    with pytest.raises(UsageRefused, match="--format ogg: choose one of wav"):
        fetch(ClientSettings(url=url), ORDER, str(tmp_path / "a"), "ogg")
    with pytest.raises(UsageRefused, match=r"a\.xyz: no format is called 'xyz': choose one of wav.* with --format"):
        fetch(ClientSettings(url=url), ORDER, str(tmp_path / "a.xyz"), None)
    assert gateway.received == []


def test_a_text_that_is_none_is_refused_here_and_not_by_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), "utf-8"))
    with pytest.raises(UsageRefused, match="the text is not utf-8"):
        text_of("-")
    with pytest.raises(UsageRefused, match="the text is not"):
        text_of("caf\udce9")
    assert text_of("café") == "café"


def test_a_server_that_speaks_something_else_is_told_in_a_line(nats_url: str, tmp_path: Path) -> None:
    url = nats_url.replace("nats:", "http:")
    with pytest.raises(OpsError, match=rf"^{url} does not speak HTTP; is it the address of a gateway\?$"):
        fetch(ClientSettings(url=url), ORDER, str(tmp_path / "a.wav"), None)


def test_without_a_player_the_error_says_what_else_to_do(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OpsError, match=r"no player found .*; write a file instead with -o FILE"):
        fetch(ClientSettings(url=url), ORDER, None, None)


def test_the_first_player_hears_the_whole_stream(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = tmp_path / "aplay"
    player.write_text(f'#!/bin/sh\n/bin/cat > {tmp_path}/heard; echo "$@" > {tmp_path}/flags\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    fetch(ClientSettings(url=url), ORDER, None, None)
    assert (tmp_path / "heard").read_bytes() == STREAMING_HEAD + PCM
    assert (tmp_path / "flags").read_text() == "-q -\n"


def test_a_player_that_wants_a_file_gets_a_finished_one(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = tmp_path / "afplay"
    player.write_text(f'#!/bin/sh\n/bin/cp "$1" {tmp_path}/heard\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    fetch(ClientSettings(url=url), ORDER, None, None)
    heard = (tmp_path / "heard").read_bytes()
    assert (heard[44:], struct.unpack("<I", heard[40:44])[0]) == (PCM, len(PCM))


def test_an_answer_that_breaks_off_leaves_the_old_file_and_no_other(
    url: str, gateway: FakeGateway, tmp_path: Path
) -> None:
    gateway.breaks_off = True
    (tmp_path / "a.wav").write_bytes(b"old")
    with pytest.raises(OpsError, match="broke off its response"):
        fetch(ClientSettings(url=url), ORDER, str(tmp_path / "a.wav"), None)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.wav", b"old")]


def test_a_refusal_is_one_line_and_no_file(url: str, gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.status = 400
    gateway.body = {"error": {"message": "voice: no such voice 'xx'", "code": "invalid"}}
    with pytest.raises(OpsError, match=r"^voice: no such voice 'xx' \(400\)$"):
        fetch(ClientSettings(url=url), ORDER, str(tmp_path / "a.wav"), None)
    assert list(tmp_path.iterdir()) == []


def test_whoever_has_no_key_is_told_where_it_goes(url: str, gateway: FakeGateway) -> None:
    gateway.status = 401
    gateway.body = {"detail": "an API key is needed"}
    with pytest.raises(
        OpsError, match=r"^an API key is needed \(401\); .* ANTIPHON_API_KEY, and `antiphon keys create`"
    ):
        look.show_fleet(ClientSettings(url=url), as_json=False)


def test_a_folder_that_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"cannot write .*nowhere/a\.wav: No such file"):
        fetch(ClientSettings(url=url), ORDER, str(tmp_path / "nowhere" / "a.wav"), None)


def test_when_nothing_listens_the_error_says_how_to_start_it(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody else can listen there meanwhile
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(OpsError, match=rf"nothing listens at {url}; start one with `antiphon up`"):
            fetch(ClientSettings(url=url), ORDER, str(tmp_path / "a.wav"), None)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"type":"about:blank","title":"Conflict","detail":"the id exists"}', "the id exists (409)"),
        (b'{"title":"Conflict"}', "Conflict (409)"),
        (b'{"error":{"message":"no"}}', "no (409)"),
        (b'{"error":"plain"}', "plain (409)"),
        (b"<html>", "409 Conflict"),
        (b"[1]", "409 Conflict"),
        (b"{}", "409 Conflict"),
    ],
)
def test_every_way_to_refuse_is_one_line(body: bytes, line: str) -> None:
    assert describe(409, body) == line


def test_the_fleet_is_a_table_for_people_and_json_for_programs(
    url: str, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = {"id": "w1", "pid": 7, "host": "h", "models": ["tone"], "slots": 8, "in_flight": 0, "state": "ready"}
    gateway.body = {"workers": [worker]}
    look.show_fleet(ClientSettings(url=url), as_json=True)
    assert json.loads(capsys.readouterr().out) == gateway.body
    look.show_fleet(ClientSettings(url=url), as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split() == ["w1", "ready", "h", "7", "tone", "8", "0"]


def test_an_id_is_never_cut_however_narrow_the_terminal(
    url: str, gateway: FakeGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, model = "c" + 40 * "7" + "-1", "a model with a long name"
    gateway.body = {"jobs": [{"id": job, "state": "done", "model": model, "seconds": 1.0, "worker": "w1"}]}
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("ops.commands.show.sys.stdout.isatty", lambda: True, raising=False)
    look.show_jobs(ClientSettings(url=url), 20, as_json=False)
    on_a_terminal = capsys.readouterr().out
    monkeypatch.setattr("ops.commands.show.sys.stdout.isatty", lambda: False, raising=False)
    look.show_jobs(ClientSettings(url=url), 20, as_json=False)
    in_a_pipe = capsys.readouterr().out.splitlines()
    assert job in on_a_terminal
    assert in_a_pipe[1].split() == [job, "done", *model.split(), "1.00", "w1", "-"]


def test_a_terminal_without_our_letters_gets_them_another_way(url: str, gateway: FakeGateway) -> None:
    gateway.body = {"id": "j1", "voice": "Müller"}
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    argv = [sys.executable, "-m", "ops.cli.main", "jobs", "show", "j1", "--url", url]
    done = subprocess.run(argv, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"M\xfcller" in done.stdout


def test_cancelling_tells_the_state(url: str, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.body = {"id": "j/1", "state": "done"}
    look.cancel(ClientSettings(url=url), "j/1", as_json=False)
    assert capsys.readouterr().out == "j/1: done\n"
    assert gateway.received == [("DELETE", "/v1/jobs/j%2F1", None)]


def test_a_job_that_is_not_there_is_one_line(url: str, gateway: FakeGateway) -> None:
    gateway.status = 404
    gateway.body = {"title": "Not Found", "detail": "no job j9"}
    with pytest.raises(OpsError, match=r"^no job j9 \(404\)$"):
        look.show_job(ClientSettings(url=url), "j9", as_json=False)
