"""The commands for authors of engines: names and flags only."""

from typing import Annotated

import typer

from gpuworker.settings import WorkerSettings
from ops.settings import read

engine_app = typer.Typer(help="Test an engine of your own.", no_args_is_help=True)

_PARAM = "A parameter of {}, its value in JSON; repeatable."


@engine_app.command("test", short_help="Check that an engine keeps every rule of the protocol.")
def check_engine(
    name: Annotated[str, typer.Argument(help="Its entry point in antiphon.engines.", metavar="NAME")],
    *,
    first: Annotated[
        str | None, typer.Option("--input", help="Input of the first job, of three blocks or more.", metavar="TEXT")
    ] = None,
    second: Annotated[str | None, typer.Option(help="Input of the second job, another one.", metavar="TEXT")] = None,
    voice: Annotated[str, typer.Option(help="Voice of both jobs.", metavar="ID")] = "",
    param: Annotated[list[str] | None, typer.Option(help=_PARAM.format("both jobs"), metavar="KEY=VALUE")] = None,
    batch_param: Annotated[
        list[str] | None, typer.Option(help=_PARAM.format("jobs that share a forward"), metavar="KEY=VALUE")
    ] = None,
    engine_option: Annotated[
        list[str] | None, typer.Option(help="One option of the engine; repeatable.", metavar="NAME.KEY=VALUE")
    ] = None,
    device: Annotated[str | None, typer.Option(help="As torch names it: cpu, cuda. [cpu]", metavar="TEXT")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    config: Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")] = None,
) -> None:
    """Load an installed engine and check it against every rule of the protocol, without a bus.

    Exits with 1 if it breaks a rule.
    """
    from ops.commands.engine import TestJobs, check

    settings = read(WorkerSettings, {"engine_option": engine_option, "device": device}, config)
    check(settings, name, TestJobs(first, second, voice, param or [], batch_param or []), as_json=json)
