"""`antiphon keys`: names and flags only."""

from typing import Annotated, Any

import typer

from ops.cli.flags import with_flags
from ops.settings import OperatorSettings, read

keys_app = typer.Typer(help="Make, list, limit and revoke API keys; mark audio of tenants.", no_args_is_help=True)

Config = Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
KeyId = Annotated[str, typer.Argument(help="Its id, from `antiphon keys list`.", metavar="ID")]
Rate = Annotated[str | None, typer.Option(help="Requests per second over all gateways, or `none`.", metavar="N")]
Burst = Annotated[str | None, typer.Option(help="Requests at the same moment, or `none`.", metavar="N")]
Jobs = Annotated[str | None, typer.Option(help="Jobs that are accepted and not ended, or `none`.", metavar="N")]
Audio = Annotated[str | None, typer.Option(help="Seconds of audio generated per day, or `none`.", metavar="S")]


@keys_app.command("create")
@with_flags(OperatorSettings)
def create_key(
    *,
    tenant: Annotated[str, typer.Option(help="The tenant of the key's jobs.", metavar="TEXT")],
    requests_per_s: Rate = None,
    burst: Burst = None,
    concurrent_jobs: Jobs = None,
    audio_s_per_day: Audio = None,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Make a key for a tenant, and print it this once."""
    from ops.commands.keys import create

    given = _given(requests_per_s, burst, concurrent_jobs, audio_s_per_day)
    create(read(OperatorSettings, flags, config).bus, tenant, given, as_json=json)


@keys_app.command("list", short_help="List keys with tenant and limits, oldest first.")
@with_flags(OperatorSettings)
def list_keys(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """List every key with its tenant and limits, oldest first; never the key itself."""
    from ops.commands.keys import show_all

    show_all(read(OperatorSettings, flags, config).bus, as_json=json)


@keys_app.command("limit")
@with_flags(OperatorSettings)
def limit_key(
    key: KeyId,
    *,
    requests_per_s: Rate = None,
    burst: Burst = None,
    concurrent_jobs: Jobs = None,
    audio_s_per_day: Audio = None,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Change limits of a key; limits that are not given stay."""
    from ops.commands.keys import limit

    given = _given(requests_per_s, burst, concurrent_jobs, audio_s_per_day)
    limit(read(OperatorSettings, flags, config).bus, key, given, as_json=json)


@keys_app.command("revoke")
@with_flags(OperatorSettings)
def revoke_key(key: KeyId, *, json: Json = False, config: Config = None, **flags: Any) -> None:
    """End a key for good: every gateway refuses it within 2 s. Running jobs go on."""
    from ops.commands.keys import revoke

    revoke(read(OperatorSettings, flags, config).bus, key, as_json=json)


@keys_app.command("rotate-links", short_help="Sign links to jobs with a new secret.")
@with_flags(OperatorSettings)
def rotate(
    *,
    end_links: Annotated[bool, typer.Option("--end-links", help="End every link that was made before.")] = False,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Sign links to jobs with a new secret; links that were made before go on to their end, unless --end-links."""
    from ops.commands.keys import rotate_links

    rotate_links(read(OperatorSettings, flags, config).bus, end_links=end_links, as_json=json)


@keys_app.command("marking", short_help="Mark the audio of a tenant as synthetic, or not; list the tenants.")
@with_flags(OperatorSettings)
def mark(
    tenant: Annotated[str | None, typer.Argument(help="Absent: list those with a marking of their own.")] = None,
    policy: Annotated[
        str | None, typer.Argument(help="`none`, `tag`, `inaudible`; `default`: that of its gateway.")
    ] = None,
    *,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Set how the audio of a tenant is marked as synthetic, in jobs from now on; without a tenant, list them."""
    from ops.commands.markings import set_marking, show_all

    bus = read(OperatorSettings, flags, config).bus
    if tenant is None:
        show_all(bus, as_json=json)
    else:
        set_marking(bus, tenant, policy, as_json=json)


def _given(
    requests_per_s: str | None, burst: str | None, concurrent_jobs: str | None, audio_s_per_day: str | None
) -> dict[str, str | None]:
    return {
        "requests_per_s": requests_per_s,
        "burst": burst,
        "concurrent_jobs": concurrent_jobs,
        "audio_s_per_day": audio_s_per_day,
    }
