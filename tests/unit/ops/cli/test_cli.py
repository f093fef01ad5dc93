"""The command's names, flags and exit codes, as a user meets them."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ops.cli.main import app
from ops.local.system import called
from ops.settings import UpSettings
from tests.support.commands import antiphon

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
    assert {"up", "gateway", "worker", "say", "compose", "jobs", "fleet", "drain", "mend", "dead", "doctor"} <= words()
    assert {"list", "show", "cancel"} <= words("jobs")
    assert {"list", "show", "retry", "drop"} <= words("dead")
    assert {"create", "list", "limit", "revoke"} <= words("keys")
    assert "test" in words("engine")


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
        ("mend", {"--nats", "--root", "--json"}),
        ("say", {"-o", "--model", "--voice", "--format", "--url"}),
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


def test_nginx_spelling_of_the_fail_timeout_is_taken() -> None:
    """The value is refused under the setting's own name: so the flag has reached the setting."""
    run = antiphon("worker", "--fail-timeout", "nonsense")
    assert run.returncode == 2
    assert "--fail-timeout-s: 'nonsense'" in run.stderr
