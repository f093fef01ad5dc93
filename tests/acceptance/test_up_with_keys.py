"""`antiphon up --require-keys` as its user runs it: no sound without a key, and a key outlives the stack."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.tone import tone_pcm
from tests.support.up import ROOT, Up, running

pytestmark = pytest.mark.slow
FLAGS = ("--models", "tone", "--require-keys")
WITHIN_S = 20.0


def antiphon(*args: str, key: str = "") -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    argv, env = [sys.executable, "-m", "ops.cli.main", *args], environ | {"ANTIPHON_API_KEY": key}
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def jobs(up: Up, key: str) -> "subprocess.CompletedProcess[str]":
    return antiphon("jobs", "list", "--json", "--url", up.http, key=key)


def curl(up: Up, key: str, file: Path) -> str:
    """The status, as curl tells it."""
    body = json.dumps({"model": "tone", "input": "x", "response_format": "pcm", "params": {"seconds": 0.5}})
    argv = ["curl", "-s", "-o", str(file), "-w", "%{http_code}", f"{up.http}/v1/audio/speech", "-d", body]
    shown = ("-H", f"Authorization: Bearer {key}") if key else ()
    return subprocess.run([*argv, *shown], capture_output=True, text=True, timeout=60, check=False).stdout


def until(up: Up, key: str, file: Path, status: str) -> None:
    """A gateway learns a moment after the bus what became of a key."""
    deadline = time.monotonic() + WITHIN_S
    while (found := curl(up, key, file)) != status:
        assert time.monotonic() < deadline, f"{found}, not {status}, after {WITHIN_S} s"
        time.sleep(0.1)


def test_a_key_opens_the_stack_survives_it_and_ends_when_it_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "sound"
    with running(tmp_path / "state", *FLAGS) as up:
        assert curl(up, "", file) == "401"
        refused = jobs(up, "")
        assert (refused.returncode, "an API key is needed" in refused.stderr) == (1, True)
        made = json.loads(
            antiphon("keys", "create", "--tenant", "me", "--nats", up.ready_line["nats"], "--json").stdout
        )
        until(up, made["key"], file, "200")
        assert file.read_bytes() == tone_pcm(0.5)
        assert len(json.loads(jobs(up, made["key"]).stdout)["jobs"]) == 1
        up.stop()
        assert made["key"][20:] not in (tmp_path / "state.stderr").read_text()
    with running(tmp_path / "state", *FLAGS) as up:
        until(up, made["key"], file, "200")
        assert antiphon("keys", "revoke", made["id"], "--nats", up.ready_line["nats"]).returncode == 0
        until(up, made["key"], file, "401")
        up.stop()
