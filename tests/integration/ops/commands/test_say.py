"""`antiphon say` and `antiphon compose` against a scripted gateway."""

import io
import socket
import struct
from pathlib import Path

import msgspec
import pytest

from ops.commands.http import describe
from ops.commands.say import SpeechRequest, fetch, spoken, text_of
from ops.errors import OpsError, UsageRefused
from ops.settings import ClientSettings
from tests.support.fake_gateway import PCM, STREAMING_HEAD, FakeGateway, served
from tests.support.tls import certificate

HELLO = SpeechRequest(model="speech", input="Hello", voice="en")


def test_a_sentence_becomes_a_wav_whose_head_has_its_true_length(
    url: str, gateway: FakeGateway, tmp_path: Path
) -> None:
    file = tmp_path / "a.wav"
    fetch(ClientSettings(url=url), HELLO, str(file), None)
    written = file.read_bytes()
    assert written[44:] == PCM
    assert struct.unpack("<I", written[4:8])[0] == len(written) - 8
    assert struct.unpack("<I", written[40:44])[0] == len(PCM)
    assert gateway.received == [
        ("POST", "/v1/audio/speech", {"model": "speech", "input": "Hello", "voice": "en", "response_format": "wav"})
    ]


@pytest.mark.parametrize(
    ("lacks", "said"), [(["a worker that is ready"], "a worker that is ready"), ([], "its turn: every slot")]
)
def test_a_wait_says_what_for(
    url: str,
    gateway: FakeGateway,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lacks: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("ops.commands.say._QUIET_S", 0.05)
    gateway.lacks = lacks
    fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a.wav"), None)
    assert capsys.readouterr().err.startswith(f"waiting for {said}")


def test_a_script_is_sent_as_the_file_has_it(url: str, gateway: FakeGateway, tmp_path: Path) -> None:
    turns = [{"speaker": "Anna", "text": "Who is there?"}, {"text": "Niemand.", "voice": "de"}]
    file = tmp_path / "play.json"
    file.write_bytes(msgspec.json.encode(turns))
    fetch(
        ClientSettings(url=url), SpeechRequest(model="speech", **spoken(None, str(file))), str(tmp_path / "a.wav"), None
    )
    assert gateway.received[0][2] == {"model": "speech", "script": turns, "response_format": "wav"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Anna: Hello", "is no list of turns"),
        (b'{"script": []}', "Expected `array`"),
        (b'[{"text": 7}]', "`$[0][...]`"),
        (b"[]", "has no turns"),
        (b"\xff", "is no list of turns"),
        (None, "cannot read .*play.json: No such file"),
    ],
    ids=range(6),
)
def test_a_file_that_is_no_script_is_named(content: bytes | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "play.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OpsError, match=words.replace("[", r"\[").replace("$", r"\$")) as raised:
        spoken(None, str(file))
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(("text", "script"), [(None, None), ("Hello", "play.json")])
def test_a_text_or_a_script_is_given_not_both(text: str | None, script: str | None) -> None:
    with pytest.raises(UsageRefused, match="give one of TEXT and --script FILE"):
        spoken(text, script)


def test_an_address_without_tls_is_no_matter_of_a_certificate(url: str, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=rf"https{url[4:]} does not speak TLS; is it {url}\?$"):
        fetch(ClientSettings(url=f"https{url[4:]}"), HELLO, str(tmp_path / "a.wav"), None)


def test_music_is_requested_with_its_length(url: str, gateway: FakeGateway, tmp_path: Path) -> None:
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
    fetch(ClientSettings(url=url), HELLO, "-", None)
    assert capfdbinary.readouterr().out == STREAMING_HEAD + PCM


@pytest.mark.parametrize(
    ("output", "form", "requested"),
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
    url: str, gateway: FakeGateway, tmp_path: Path, output: str, form: str | None, requested: str
) -> None:
    fetch(ClientSettings(url=url), HELLO, str(tmp_path / output), form)
    assert gateway.received[0][2]["response_format"] == requested


def test_an_unknown_format_is_refused_by_the_gateway(url: str, gateway: FakeGateway, tmp_path: Path) -> None:
    says = "response_format: 'xyz' is not one of wav, pcm"
    gateway.status = 422
    gateway.body = {"error": {"message": says}}
    with pytest.raises(OpsError, match=rf"^{says} \(422\)$"):
        fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a"), "xyz")
    with pytest.raises(OpsError, match=rf"^{says} \(422\); it is the ending of .*a\.xyz, and --format names another$"):
        fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a.xyz"), None)
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_text_are_refused_here_and_not_by_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), "utf-8"))
    with pytest.raises(UsageRefused, match="the text is not utf-8"):
        text_of("-")
    with pytest.raises(UsageRefused, match="the text is not"):
        text_of("caf\udce9")
    assert text_of("café") == "café"


def test_a_server_that_speaks_something_else_is_reported_in_a_line(nats_url: str, tmp_path: Path) -> None:
    url = nats_url.replace("nats:", "http:")
    with pytest.raises(OpsError, match=rf"^{url} does not speak HTTP; is it the address of a gateway\?$"):
        fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a.wav"), None)


def test_without_a_player_the_error_says_what_else_to_do(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OpsError, match=r"no player found .*; write a file instead with -o FILE"):
        fetch(ClientSettings(url=url), HELLO, None, None)


def test_the_first_player_gets_the_whole_stream(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = tmp_path / "aplay"
    player.write_text(f'#!/bin/sh\n/bin/cat > {tmp_path}/played; echo "$@" > {tmp_path}/flags\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    fetch(ClientSettings(url=url), HELLO, None, None)
    assert (tmp_path / "played").read_bytes() == STREAMING_HEAD + PCM
    assert (tmp_path / "flags").read_text() == "-q -\n"


def test_a_player_that_wants_a_file_gets_a_finished_one(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = tmp_path / "afplay"
    player.write_text(f'#!/bin/sh\n/bin/cp "$1" {tmp_path}/played\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    fetch(ClientSettings(url=url), HELLO, None, None)
    played = (tmp_path / "played").read_bytes()
    assert (played[44:], struct.unpack("<I", played[40:44])[0]) == (PCM, len(PCM))


@pytest.mark.parametrize("code", [0, 1])
def test_a_player_without_a_loudspeaker_fails_and_its_reason_is_in_the_error(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    player = tmp_path / "aplay"
    player.write_text(f"#!/bin/sh\n/bin/cat > /dev/null; echo 'no such device' >&2; echo more >&2; exit {code}\n")
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OpsError, match=r"^aplay cannot play: no such device; write a file instead with -o FILE$"):
        fetch(ClientSettings(url=url), HELLO, None, None)
    assert "more" not in capfd.readouterr().err


def test_the_length_and_the_job_are_on_stderr(
    url: str, gateway: FakeGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.job = "j42"
    fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a.wav"), None)
    assert capsys.readouterr().err == "0.5 s of audio, job j42\n"


def test_a_certificate_of_an_unknown_authority_is_named_and_may_be_trusted(
    tmp_path: Path, gateway: FakeGateway
) -> None:
    trusted, key = certificate(tmp_path)
    with served(gateway, (trusted, key)) as url:
        with pytest.raises(OpsError, match=r"its certificate is not accepted: self.signed certificate; --ca FILE"):
            fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a.wav"), None)
        fetch(ClientSettings(url=url, ca=str(trusted)), HELLO, str(tmp_path / "a.wav"), None)
    with pytest.raises(OpsError, match=r"^--ca /no/such/file: No such file or directory$"):
        fetch(ClientSettings(url=url, ca="/no/such/file"), HELLO, str(tmp_path / "a.wav"), None)


def test_an_answer_that_breaks_off_leaves_the_old_file_and_no_other(
    url: str, gateway: FakeGateway, tmp_path: Path
) -> None:
    gateway.breaks_off = True
    (tmp_path / "a.wav").write_bytes(b"old")
    with pytest.raises(OpsError, match="broke off its response"):
        fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a.wav"), None)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.wav", b"old")]


def test_a_refusal_is_one_line_and_no_file(url: str, gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.status = 400
    gateway.body = {"error": {"message": "voice: no such voice 'xx'", "code": "invalid"}}
    with pytest.raises(OpsError, match=r"^voice: no such voice 'xx' \(400\)$"):
        fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a.wav"), None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"cannot write .*nowhere/a\.wav: No such file"):
        fetch(ClientSettings(url=url), HELLO, str(tmp_path / "nowhere" / "a.wav"), None)


def test_when_nothing_listens_the_error_says_how_to_start_it(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and no other process can listen there meanwhile
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(OpsError, match=rf"nothing listens at {url}; start one with `antiphon up`"):
            fetch(ClientSettings(url=url), HELLO, str(tmp_path / "a.wav"), None)


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
