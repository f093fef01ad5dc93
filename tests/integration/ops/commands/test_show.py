"""`antiphon jobs` and `antiphon fleet` against a scripted gateway."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.commands import show
from ops.errors import OpsError
from ops.settings import ClientSettings
from tests.support.fake_gateway import FakeGateway

ROOT = Path(__file__).parents[4]


def test_a_caller_without_a_key_learns_where_it_goes(url: str, gateway: FakeGateway) -> None:
    gateway.status = 401
    gateway.body = {"detail": "an API key is needed"}
    with pytest.raises(
        OpsError, match=r"^an API key is needed \(401\); .* ANTIPHON_API_KEY, and `antiphon keys create`"
    ):
        show.show_fleet(ClientSettings(url=url), as_json=False)


def test_the_fleet_is_a_table_for_people_and_json_for_programs(
    url: str, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = {"id": "w1", "pid": 7, "host": "h", "models": ["tone"], "slots": 8, "in_flight": 0, "state": "ready"}
    gateway.body = {"workers": [worker]}
    show.show_fleet(ClientSettings(url=url), as_json=True)
    assert json.loads(capsys.readouterr().out) == gateway.body
    show.show_fleet(ClientSettings(url=url), as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split() == ["w1", "ready", "h", "7", "tone", "8", "0"]


def test_an_id_is_never_cut_however_narrow_the_terminal(
    url: str, gateway: FakeGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, model = "c" + 40 * "7" + "-1", "a model with a long name"
    gateway.body = {"jobs": [{"id": job, "state": "done", "model": model, "seconds": 1.0, "worker": "w1"}]}
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("ops.commands.show.sys.stdout.isatty", lambda: True, raising=False)
    show.show_jobs(ClientSettings(url=url), 20, as_json=False)
    on_a_terminal = capsys.readouterr().out
    monkeypatch.setattr("ops.commands.show.sys.stdout.isatty", lambda: False, raising=False)
    show.show_jobs(ClientSettings(url=url), 20, as_json=False)
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


def test_cancelling_prints_the_state(url: str, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.body = {"id": "j/1", "state": "done"}
    show.cancel(ClientSettings(url=url), "j/1", as_json=False)
    assert capsys.readouterr().out == "j/1: done\n"
    assert gateway.received == [("DELETE", "/v1/jobs/j%2F1", None)]


def test_a_job_that_is_not_there_is_one_line(url: str, gateway: FakeGateway) -> None:
    gateway.status = 404
    gateway.body = {"title": "Not Found", "detail": "no job j9"}
    with pytest.raises(OpsError, match=r"^no job j9 \(404\)$"):
        show.show_job(ClientSettings(url=url), "j9", as_json=False)


def test_an_error_of_a_job_is_one_sentence(url: str, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.body = {"id": "j1", "error": {"code": "cancelled", "message": "left", "path": ""}}
    show.show_job(ClientSettings(url=url), "j1", as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == ["error", "left (cancelled)"]
    gateway.body = {"id": "j1", "error": {"code": "invalid", "message": "too long", "path": "params.seconds"}}
    show.show_job(ClientSettings(url=url), "j1", as_json=False)
    assert capsys.readouterr().out.splitlines()[1].endswith("too long (invalid at params.seconds)")
