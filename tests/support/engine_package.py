"""A distribution with one engine in it, as a third party would install it."""

import os
from pathlib import Path


def install(folder: Path, name: str, attribute: str, source: str) -> None:
    """Write the distribution `name` into `folder`: a module of that name, and an entry point to its `attribute`.

    Processes and interpreters that have `folder` on their path then have the engine `name`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[antiphon.engines]\n{name} = {name}:{attribute}\n")


def python_path(*folders: Path) -> str:
    """A value of PYTHONPATH with `folders` first."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
