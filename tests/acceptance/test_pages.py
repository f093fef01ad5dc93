"""What the pages show is run as it stands, against the stack that `up` starts: commands and programs.

`docs/nats.md` and the engine of `docs/engines.md` have tests of their own.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clips
from tests.support.pages import PAGES, ROOT, Command, blocks, commands, fits
from tests.support.up import Up, running

WALKED = (
    "README.md",
    *(f"docs/{name}.md" for name in ("http", "apis", "reuse", "webhooks", "keys", "operations", "voices", "routes")),
)
#: Commands that start the stack which runs already, are other programs, name hosts or models that do not exist, or
#: belong to `test_dead.py`.
ELSEWHERE = re.compile(
    r"make up|.*(bus\.example|\b10\.0\.0\.7)|antiphon dead (show|retry|drop)|promtool|prometheus|.*MODEL"
)
#: Pages that the fast suite walks; the others take up to half a minute each.
QUICK = ("README.md", "docs/http.md")
WITHIN_S = 60.0
MAGIC = {"wav": (b"RIFF",), "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3"), "pcm": (b"",)}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up") / "state", "--models", "speech,music,tone") as up:
        yield up
        up.stop()


class Reader:
    """Somebody who types what a page shows, in a folder of their own, and for `…` the id that they were told last."""

    def __init__(self, up: Up, folder: Path) -> None:
        self._up = up
        self._folder = folder
        self._id = ""
        self._file = ""
        self._key = ""
        self._link = ""
        # curl shows no progress but the status; an error is an exit code of its own.
        calls = {"curl": f"{shutil.which('curl')} -sS --fail-with-body -w '%{{stderr}}%{{http_code}}'"}
        calls["antiphon"] = f"{sys.executable} -m ops.cli.main"
        for name, call in calls.items():
            script = folder / ".bin" / name
            script.parent.mkdir(exist_ok=True)
            script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {call} "$@"\n')
            script.chmod(0o755)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        told = {"ANTIPHON_URL": up.http, "ANTIPHON_NATS": up.ready_line["nats"], "LC_ALL": "C.UTF-8"}
        for name in ("clip.wav", "ada.wav"):  # the pages send them
            (folder / name).write_bytes(clips.tone_clip())
        self._environ = {**environ, **told, "PATH": f"{folder / '.bin'}:{environ['PATH']}"}

    def here(self, text: str) -> str:
        """`text` with the addresses of this stack."""
        text = text.replace("//127.0.0.1:8080", "//" + self._up.http.partition("//")[2])
        # nobody's server gets our tests' webhooks
        text = text.replace("//example.org/", "//example.invalid/")
        return re.sub(r"\bURL\b", self._up.http, text).replace(".venv/bin/antiphon", "antiphon")

    def obey(self, command: Command) -> None:
        """Run it. Raises AssertionError if it fails or answers otherwise than the page says, looked at again and again
        where it only looks."""
        looks = not re.search(r" -d | -X |--data", command.line) or "query_result" in command.line
        deadline = time.monotonic() + WITHIN_S
        while (wrong := self._wrong(command)) and looks and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not wrong, f"{command.line}\n{wrong}"

    def _wrong(self, command: Command) -> str:
        line = self.here(command.line).replace("%2F…", f"%2F{self._file}").replace("…", self._id)
        line = line.replace("LINK", self._link)
        line = re.sub(r"\bJOB\b", self._id, re.sub(r"(keys \w+) [0-9a-f]{12}", rf"\1 {self._key}", line))
        done = self.run("bash", "-c", f"set -o pipefail; {line}")
        self._remember(done.stdout)
        if done.returncode != 0 or not self._is_as_shown(command.shown, done):
            return f"{done.returncode} {done.stderr}\n{done.stdout}\nshown: {command.shown}"
        if target := re.search(r"-o (\w+\.(\w+))", line):
            begin = (self._folder / target[1]).read_bytes()[:4]
            return "" if begin.startswith(MAGIC[target[2]]) else f"{target[1]} begins with {begin!r}"
        return ""

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            argv, cwd=self._folder, env=self._environ, capture_output=True, text=True, timeout=120, check=False
        )

    def _remember(self, answer: str) -> None:
        if found := re.search(r'"id":"([^"]+)".*"scopes":', answer):
            self._link = found[1]
        elif found := re.search(r'"(?:task_id|id)":"([^"]+)"|^id .*\n(\S+) +\w+ +(?:speech|music|tone)', answer):
            self._id = found[1] or found[2]
        if found := re.search(r"%2Fjobs%2F([\w-]+)\.mp3", answer):
            self._file = found[1]
        if found := re.search(r"^key +ak-([0-9a-f]{12})-", answer, re.MULTILINE):
            self._key = found[1]

    def _is_as_shown(self, told: str, done: "subprocess.CompletedProcess[str]") -> bool:
        if told[:3].isdecimal():
            return done.stderr.endswith(told[:3])
        if told in {"hit", "miss"}:
            return done.stdout.strip().endswith(told)
        if told.startswith(("{", "id ")):
            day = re.sub(r"\b[0-9a-f]{12}\b", self._key, re.sub(r"\b2\d{3}-\d\d-\d\d\b", "…", told))
            return fits(done.stdout, day.replace('"queue_position":1', '"queue_position":…'))
        return True


@pytest.mark.parametrize(
    "page", [page if page in QUICK else pytest.param(page, marks=pytest.mark.slow) for page in WALKED]
)
def test_every_command_of_a_page_does_what_the_page_says(up: Up, page: str, tmp_path: Path) -> None:
    reader = Reader(up, tmp_path)
    reader.obey(Command("""curl URL/v1/jobs -d '{"model":"tone","input":"so that there is a job"}'""", "202"))
    told = [command for command in commands(ROOT / page) if not ELSEWHERE.match(command.line)]
    assert told
    for command in told:
        reader.obey(command)


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in ("README.md", "docs/apis.md") for number in range(len(blocks(ROOT / page, "python")))],
)
def test_every_program_of_a_page_runs_and_saves_what_it_says(up: Up, page: str, number: int, tmp_path: Path) -> None:
    reader, program = Reader(up, tmp_path), blocks(ROOT / page, "python")[number]
    done = reader.run(sys.executable, "-c", reader.here(program))
    assert done.returncode == 0, done.stderr
    for name, ending in re.findall(r'"(\w+\.(wav|mp3))"', program):
        assert (tmp_path / name).read_bytes().startswith(MAGIC[ending])
    assert ('"type":"session.done"' in done.stdout) == ("session.done" in program)


def test_every_page_with_commands_is_walked() -> None:
    with_commands = {page.relative_to(ROOT).as_posix() for page in PAGES if commands(page)}
    # its servers need passwords, hosts and a folder of the machine's: tests/integration/ops/deploy/test_nats_users.py
    assert with_commands - set(WALKED) == {"ops/deploy/nats/README.md"}
