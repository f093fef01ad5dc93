"""`antiphon route`: names and flags only."""

from typing import Annotated, Any

import typer

from ops.cli.flags import with_flags
from ops.settings import OperatorSettings, read

routes_app = typer.Typer(help="List, change and undo routes: the switch between versions.", no_args_is_help=True)

Config = Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[str, typer.Argument(help="The name that requests have for a model.", metavar="NAME")]
Why = Annotated[str, typer.Option(help="The reason, for the history.", metavar="TEXT")]


@routes_app.command("list")
@with_flags(OperatorSettings)
def list_routes(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """List the routes in force, by name."""
    from ops.commands.routes import show_all

    show_all(read(OperatorSettings, flags, config).bus, as_json=json)


@routes_app.command("show")
@with_flags(OperatorSettings)
def show_route(name: Name, *, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Show one route: its targets, their shares, and its last change."""
    from ops.commands.routes import show

    show(read(OperatorSettings, flags, config).bus, name, as_json=json)


@routes_app.command("set", short_help="Make or replace a route: `route set speech v1=95 v2=5`.")
@with_flags(OperatorSettings)
def set_route(
    name: Name,
    targets: Annotated[
        list[str],
        typer.Argument(
            help="A version of the model NAME, or MODEL@VERSION, or MODEL@ for whichever version requests of that "
            "model get; and its weight, from 0.",
            metavar="TARGET=WEIGHT",
        ),
    ],
    *,
    sticky: Annotated[
        str,
        typer.Option(
            help="Requests that go to one target: those of a session (X-Session-Id), of a tenant, or with one value of "
            "a header.",
            metavar="session|tenant|header:NAME",
        ),
    ] = "session",
    force: Annotated[bool, typer.Option("--force", help="Also to a version that no worker offers now.")] = False,
    why: Why = "",
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Make or replace a route. Every gateway applies it at once, to requests that arrive from then on."""
    from ops.commands.routes import set_route as set_one

    set_one(read(OperatorSettings, flags, config).bus, name, targets, sticky, why, force=force, as_json=json)


@routes_app.command("remove")
@with_flags(OperatorSettings)
def remove_route(name: Name, *, why: Why = "", json: Json = False, config: Config = None, **flags: Any) -> None:
    """End a route: its name stands again for what it does without one. `undo` restores it."""
    from ops.commands.routes import remove

    remove(read(OperatorSettings, flags, config).bus, name, why, as_json=json)


@routes_app.command("history")
@with_flags(OperatorSettings)
def show_history(name: Name, *, json: Json = False, config: Config = None, **flags: Any) -> None:
    """List the changes of a route, oldest first."""
    from ops.commands.routes import show_history as show_changes

    show_changes(read(OperatorSettings, flags, config).bus, name, as_json=json)


@routes_app.command("undo", short_help="Restore a route as it was before its last change.")
@with_flags(OperatorSettings)
def undo_change(
    name: Name,
    *,
    to: Annotated[int | None, typer.Option(help="The revision to restore, from `route history`.", metavar="N")] = None,
    why: Why = "",
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Restore a route as it was before its last change; undone again, as it was before the change before."""
    from ops.commands.routes import undo

    undo(read(OperatorSettings, flags, config).bus, name, to, why, as_json=json)
