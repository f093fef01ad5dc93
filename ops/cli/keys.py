"""`antiphon keys`: names and flags only."""

from typing import Annotated, Any

import typer

from ops.cli.flags import with_flags
from ops.settings import VisitorSettings, read

keys_app = typer.Typer(help="Make, list, limit and revoke API keys.", no_args_is_help=True)

Config = Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
KeyId = Annotated[str, typer.Argument(help="As `antiphon keys list` tells it.", metavar="ID")]
Rate = Annotated[str | None, typer.Option(help="Requests per second over all gateways, or `none`.", metavar="N")]
Burst = Annotated[str | None, typer.Option(help="Requests that may come at once, or `none`.", metavar="N")]
Jobs = Annotated[str | None, typer.Option(help="Jobs accepted and not ended, or `none`.", metavar="N")]
Audio = Annotated[str | None, typer.Option(help="Seconds of audio made in a day, or `none`.", metavar="S")]


@keys_app.command("create")
@with_flags(VisitorSettings)
def create_key(
    *,
    tenant: Annotated[str, typer.Option(help="Whom the key speaks for.", metavar="TEXT")],
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
    create(read(VisitorSettings, flags, config).bus, tenant, given, as_json=json)


@keys_app.command("list", short_help="Every key with its tenant and limits, oldest first.")
@with_flags(VisitorSettings)
def list_keys(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Every key with its tenant and limits, oldest first; never the key itself."""
    from ops.commands.keys import show_all

    show_all(read(VisitorSettings, flags, config).bus, as_json=json)


@keys_app.command("limit")
@with_flags(VisitorSettings)
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
    """Change some limits of a key; those that are not named stay."""
    from ops.commands.keys import limit

    given = _given(requests_per_s, burst, concurrent_jobs, audio_s_per_day)
    limit(read(VisitorSettings, flags, config).bus, key, given, as_json=json)


@keys_app.command("revoke")
@with_flags(VisitorSettings)
def revoke_key(key: KeyId, *, json: Json = False, config: Config = None, **flags: Any) -> None:
    """End a key for good; every gateway refuses it within 2 s. Jobs that run go on."""
    from ops.commands.keys import revoke

    revoke(read(VisitorSettings, flags, config).bus, key, as_json=json)


def _given(
    requests_per_s: str | None, burst: str | None, concurrent_jobs: str | None, audio_s_per_day: str | None
) -> dict[str, str | None]:
    return {
        "requests_per_s": requests_per_s,
        "burst": burst,
        "concurrent_jobs": concurrent_jobs,
        "audio_s_per_day": audio_s_per_day,
    }
