"""The commands that go to the bus itself, so that they work without a gateway: names and flags only."""

from typing import Annotated, Any

import typer

from ops.cli.flags import with_flags
from ops.settings import VisitorSettings, read

dead_app = typer.Typer(help="List, show, retry and drop jobs that were given up on.", no_args_is_help=True)

Config = Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
DeadId = Annotated[str, typer.Argument(help="As `antiphon dead list` tells it.", metavar="ID")]
Tenant = Annotated[str | None, typer.Option(help="Whose it is, where two have one of this id.", metavar="TEXT")]


@dead_app.command("list")
@with_flags(VisitorSettings)
def list_dead(
    *,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.", min=1, max=1000)] = 20,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Jobs that were given up on, newest first."""
    from ops.commands.dead import show_all

    show_all(read(VisitorSettings, flags, config).bus, limit, as_json=json)


@dead_app.command("show", short_help="Why one was given up on.")
@with_flags(VisitorSettings)
def show_dead(job: DeadId, *, tenant: Tenant = None, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Why one was given up on: reason, attempts, last worker, traceback where one is known."""
    from ops.commands.dead import show

    show(read(VisitorSettings, flags, config).bus, job, tenant, as_json=json)


@dead_app.command("retry", short_help="Queue it anew, as a new job.")
@with_flags(VisitorSettings)
def retry_dead(job: DeadId, *, tenant: Tenant = None, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Queue it anew, as a new job with an id of its own, and remove it from the dead."""
    from ops.commands.dead import retry

    retry(read(VisitorSettings, flags, config).bus, job, tenant, as_json=json)


@dead_app.command("drop")
@with_flags(VisitorSettings)
def drop_dead(job: DeadId, *, tenant: Tenant = None, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Remove it from the dead; its log stays what it is."""
    from ops.commands.dead import drop

    drop(read(VisitorSettings, flags, config).bus, job, tenant, as_json=json)


@with_flags(VisitorSettings)
def drain(
    worker: Annotated[str, typer.Argument(help="As `antiphon fleet` tells it.", metavar="ID")],
    *,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Ask one worker to stop: it takes nothing new, hands back what it cannot finish, and ends."""
    from ops.commands.drain import drain as ask

    ask(read(VisitorSettings, flags, config).bus, worker, as_json=json)
