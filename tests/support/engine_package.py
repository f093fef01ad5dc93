"""A distribution with one engine in it, as a third party would install it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bus.settings import BusSettings
from tests.support.programs import bus_flags


def install(folder: Path, name: str, attribute: str, source: str, group: str = "antiphon.engines") -> None:
    """Write the distribution `name` into `folder`: a module of that name, and an entry point to its `attribute`.

    Processes and interpreters that have `folder` on their path then have the engine `name`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}:{attribute}\n")


def python_path(*folders: Path) -> str:
    """A value of PYTHONPATH with `folders` first."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


@contextmanager
def worker(settings: BusSettings, folder: Path, model: str, name: str, *flags: str) -> Iterator[Path]:
    """A worker, in an interpreter of its own, that serves the engine `model` of `folder`; yields its log."""
    log = folder / f"{name}.log"
    command = ["worker", *bus_flags(settings), "--id", name, "--models", model, "--slots", "1", *flags]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli.main", *command],
            env={**os.environ, "PYTHONPATH": python_path(folder)},
            stderr=out,
        )
        try:
            yield log
        finally:
            process.terminate()
            process.wait(20)
