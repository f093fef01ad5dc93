"""`antiphon voices`: names and flags only."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.flags import with_flags
from ops.settings import OperatorSettings, read

voices_app = typer.Typer(help="Install, list and remove voices while workers run.", no_args_is_help=True)

Config = Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[str, typer.Argument(help="The voice: NAME of NAME.onnx.", metavar="NAME")]
Model = Annotated[str, typer.Option(help="The model that speaks with it.", metavar="NAME")]
Source = Annotated[
    str, typer.Option("--from", help="A folder with NAME.onnx and NAME.onnx.json, or its URL.", metavar="FOLDER|URL")
]
Sha256 = Annotated[
    str, typer.Option(help="`sha256sum FILE… | sha256sum` of the files, by name; required with a URL.", metavar="H")
]


@voices_app.command("list")
@with_flags(OperatorSettings)
def list_voices(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """List the voices that are installed. Voices in a worker's own folder are in `GET /v1/voices`."""
    from ops.commands.voices import show_all

    show_all(read(OperatorSettings, flags, config).bus, as_json=json)


@voices_app.command("install", short_help="Install a voice from a folder or a server.")
@with_flags(OperatorSettings)
def install_voice(
    name: Name,
    *,
    source: Annotated[
        str,
        typer.Option("--from", help="A folder with NAME.onnx and NAME.onnx.json, or its URL.", metavar="FOLDER|URL"),
    ],
    sha256: Annotated[
        str,
        typer.Option(help="`sha256sum FILE… | sha256sum` of the two files, by name; required with a URL.", metavar="H"),
    ] = "",
    model: Model = "piper",
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licence without a question.")] = False,
    cache: Annotated[Path, typer.Option(help="Folder of downloads that broke off.", metavar="FOLDER")] = Path(
        "~/.cache/antiphon/voices"
    ),
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Install a voice: check it, show its licence, store it on the bus. Workers fetch it; none is started again."""
    from ops.commands.voices import Request, install

    request = Request(model, name, source, sha256, cache, is_agreed=yes)
    install(read(OperatorSettings, flags, config).bus, request, as_json=json)


@voices_app.command("remove")
@with_flags(OperatorSettings)
def remove_voice(
    name: Name, *, model: Model = "piper", json: Json = False, config: Config = None, **flags: Any
) -> None:
    """Remove a voice: no new job gets it. Jobs that were accepted with it go on."""
    from ops.commands.voices import remove

    remove(read(OperatorSettings, flags, config).bus, model, name, as_json=json)
