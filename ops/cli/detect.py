"""`antiphon detect`: names and flags only."""

from pathlib import Path
from typing import Annotated

import typer


def detect(
    file: Annotated[Path, typer.Argument(help="A file of any format that gateways send.", metavar="FILE")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Find our marks of synthetic audio in FILE: the tag and, in a WAV, the installed watermark. Exit code 1: none."""
    from ops.commands.detect import detect as find

    if not find(file, as_json=json):
        raise typer.Exit(1)
