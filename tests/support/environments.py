"""Environments of their own for packages that a test runs unmodified: a Python one with pip, and a Node one with npm.

Each function skips the test, with the reason, if the index or the program is out of reach; a package that cannot be
installed although its index answers is a failure.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: Seconds for one installation, and for the question whether an index answers.
INSTALL_S = 400
_PROBE_S = 60


def ran(command: list[str | Path], folder: Path, within_s: float = 120, **variables: str) -> str:
    """What the command printed; the test fails if its exit status is not 0."""
    done = _run(command, folder, within_s, **variables)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


def _run(
    command: list[str | Path], folder: Path, within_s: float, **variables: str
) -> subprocess.CompletedProcess[str]:
    # Of ours these programs must see nothing, least of all the path of our own modules.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ANTIPHON"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within_s,
        check=False,
    )


def python_with(folder: Path, *packages: str) -> Path:
    """The interpreter of a new virtual environment in `folder` with these packages, pinned as `name==version`."""
    ran([sys.executable, "-m", "venv", folder], folder.parent)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    probe = _run([*pip, "download", "--no-deps", "--dest", folder / "probe", packages[0]], folder, _PROBE_S)
    if probe.returncode:
        pytest.skip(f"PyPI is out of reach: {_last_line(probe.stdout)}")
    ran([*pip, "install", *packages], folder, INSTALL_S)
    return python


def node_with(folder: Path, *packages: str) -> Path:
    """`folder`, with these packages in its `node_modules`, pinned as `name@version`."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true}')
    probe = _run(["npm", "view", packages[0], "version"], folder, _PROBE_S)
    if probe.returncode:
        pytest.skip(f"npm's registry is out of reach: {_last_line(probe.stdout)}")
    ran(["npm", "install", "--no-audit", "--no-fund", "--silent", *packages], folder, INSTALL_S)
    return folder


def _last_line(text: str) -> str:
    return ([line for line in text.splitlines() if line.strip()] or ["no output"])[-1][:200]
