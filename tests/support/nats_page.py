"""The commands of docs/nats.md, run as they stand; `python -m tests.support.nats_page` writes their outputs into the page.

`nats` is `nats_shim`, in a shell of its own, against a stack of the default root on a server of its own.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.fleets import small_bus, stack_of
from tests.support.nats import nats_server

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "nats.md"
_BLOCK = re.compile(r"(?<=```console\n)(.*?)(?=```)", re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)\n", re.MULTILINE)
_COMMAND_S = 60.0
#: What differs from run to run, and what stands for it.
_VARIABLE = (
    (re.compile(r"[0-9a-f]{32}"), "JOB"),
    (re.compile(r"rtt [0-9.]+ms"), "rtt T"),
    (re.compile(r'_s":[0-9.]+'), '_s":T'),
    (re.compile(r"((Sequence|Subject-Sequence): )[0-9]+"), r"\1N"),
    (re.compile(r"(Antiphon-(Block|Frame|Next): ).*"), r"\1N"),
    (re.compile(r"Antiphon-Started: .*\n"), ""),
    (re.compile(r"Nats-Msg-Id: .*"), "Nats-Msg-Id: M"),
    (re.compile(r"Nats-Time-Stamp: .*"), "Nats-Time-Stamp: T"),
)


class Shell:
    """Where the page's commands run."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder

    def run(self, command: str) -> str:
        """The output that a terminal would show."""
        done = subprocess.run(
            ["bash", "-c", command],
            env=self._environment,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_S,
            check=False,
        )
        return done.stdout.decode()


@contextmanager
def shell() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="antiphon-page-") as folder, nats_server() as url:
        shim = Path(folder) / "nats"
        # Its client would load a WebSocket library for a connection that is never made: half of each command's time.
        start = "import runpy, sys; sys.modules['aiohttp'] = None; runpy.run_module('tests.support.nats_shim', run_name='__main__')"
        shim.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -c "{start}" "$@"\n')
        shim.chmod(0o755)
        settings = small_bus(url, "antiphon", ack_wait_s=5.0)
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "NATS_URL": url, "LC_ALL": "C.UTF-8"}
        with stack_of(settings, knows_all=True):
            yield Shell(environment, Path(folder))


def blocks(page: str) -> list[list[tuple[str, str]]]:
    """Of each block of commands: (command, output)."""
    found = []
    for block in _BLOCK.findall(page):
        parts = _COMMAND.split(block)
        found.append(list(zip(parts[1::2], parts[2::2], strict=True)))
    return found


def plain(output: str) -> str:
    """`output` less what differs from run to run."""
    for pattern, stand_in in _VARIABLE:
        output = pattern.sub(stand_in, output)
    return output


def written(page: str, shell: Shell) -> str:
    """`page` with every output as it is now."""

    def run(block: re.Match[str]) -> str:
        commands = [command for command, _ in blocks(f"```console\n{block[0]}```")[0]]
        return "".join(f"$ {command}\n{shell.run(command).rstrip()}\n" for command in commands)

    return _BLOCK.sub(run, page)


if __name__ == "__main__":
    with shell() as opened:
        PAGE.write_text(written(PAGE.read_text(), opened))
