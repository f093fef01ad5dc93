"""The commands that use the bus directly, so that they work without a gateway: names and flags only."""

from typing import Annotated, Any

import typer

from ops.cli.flags import with_flags
from ops.settings import OperatorSettings, read

dead_app = typer.Typer(help="List, show, retry and drop dead letters.", no_args_is_help=True)

Config = Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DeadId = Annotated[str, typer.Argument(help="Its id, from `antiphon dead list`.", metavar="ID")]
Tenant = Annotated[str | None, typer.Option(help="Its tenant, if two tenants have a job of this id.", metavar="TEXT")]


@dead_app.command("list")
@with_flags(OperatorSettings)
def list_dead(
    *,
    limit: Annotated[int, typer.Option(help="Maximum number of dead letters, newest first.", min=1, max=1000)] = 20,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """List dead letters, newest first."""
    from ops.commands.dead import show_all

    show_all(read(OperatorSettings, flags, config).bus, limit, as_json=json)


@dead_app.command("show", short_help="Show why one job died.")
@with_flags(OperatorSettings)
def show_dead(job: DeadId, *, tenant: Tenant = None, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Show why one job died: reason, attempts, last worker, and the traceback if there is one."""
    from ops.commands.dead import show

    show(read(OperatorSettings, flags, config).bus, job, tenant, as_json=json)


@dead_app.command("retry", short_help="Queue the job again, as a new one.")
@with_flags(OperatorSettings)
def retry_dead(job: DeadId, *, tenant: Tenant = None, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Queue the job again, as a new one with its own id, and remove the dead letter."""
    from ops.commands.dead import retry

    retry(read(OperatorSettings, flags, config).bus, job, tenant, as_json=json)


@dead_app.command("drop")
@with_flags(OperatorSettings)
def drop_dead(job: DeadId, *, tenant: Tenant = None, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Remove a dead letter; the log of its job stays."""
    from ops.commands.dead import drop

    drop(read(OperatorSettings, flags, config).bus, job, tenant, as_json=json)


@with_flags(OperatorSettings)
def mend(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """End the jobs that a damaged store has lost, and list them; `antiphon up` does so when it starts."""
    from ops.commands.mend import mend as mend_store

    mend_store(read(OperatorSettings, flags, config).bus, as_json=json)


@with_flags(OperatorSettings)
def drain(
    worker: Annotated[str, typer.Argument(help="Its id, from `antiphon fleet`.", metavar="ID")],
    *,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Stop one worker: it takes no new job, gives back the jobs that it cannot finish in time, and exits."""
    from ops.commands.drain import drain as drain_worker

    drain_worker(read(OperatorSettings, flags, config).bus, worker, as_json=json)
