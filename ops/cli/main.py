"""The command `antiphon`: names and flags only.

What a command needs is imported when it runs, so that `--help` is quick and a gateway never loads what a worker needs.
"""

import io
import sys
from typing import Annotated, Any

import typer

from bus.settings import SettingsError
from gateway.settings import GatewaySettings
from gpuworker.settings import WorkerSettings
from ops.chaos.settings import ChaosSettings, SoakSettings
from ops.cli.bus import dead_app, drain
from ops.cli.flags import with_flags
from ops.cli.keys import keys_app
from ops.errors import OpsError, UsageRefused
from ops.settings import ClientSettings, UpSettings, read

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
jobs_app = typer.Typer(help="List, show and cancel jobs.", no_args_is_help=True)
app.add_typer(jobs_app, name="jobs")
app.add_typer(dead_app, name="dead")
app.add_typer(keys_app, name="keys")

Config = Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
Ready = Annotated[bool, typer.Option("--json", help="Print one line of JSON once a request would succeed.")]
Out = Annotated[
    str | None, typer.Option("-o", "--output", help="A file, or - for stdout. Played if not given.", metavar="FILE")
]
Form = Annotated[
    str | None,
    typer.Option(
        "--format", help="wav, pcm, mp3, opus, aac or flac; by the file's ending if not given.", metavar="TEXT"
    ),
]
Version = Annotated[
    bool, typer.Option("--version", help="Say which version this is.", callback=lambda asked: _say_version(asked=asked))
]
JobId = Annotated[str, typer.Argument(help="As the header Antiphon-Job told it.", metavar="JOB")]


@app.callback()
def antiphon(*, version: Version = False) -> None:
    """Serve generative audio from a fleet of GPUs over a durable bus."""


def _say_version(*, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"antiphon {version('antiphon')}")
        raise typer.Exit


@app.command(short_help="Run the whole stack on this machine, in the foreground.")
@with_flags(UpSettings)
def up(*, config: Config = None, json: Ready = False, **flags: Any) -> None:
    """Run the whole stack on this machine, in the foreground: nats-server, a gateway, workers."""
    settings = read(UpSettings, flags, config)
    from ops.local.process import run
    from ops.local.stack import serve

    run("up", settings, serve(config, as_json=json), level=settings.log_level, form=settings.log_format)


@app.command()
@with_flags(GatewaySettings)
def gateway(*, config: Config = None, **flags: Any) -> None:
    """Run one gateway: HTTP in, audio out."""
    settings = read(GatewaySettings, flags, config)
    from gateway.serve import serve
    from ops.local.process import run

    run("gateway", settings, serve, level=settings.log_level, form=settings.log_format)


@app.command()
@with_flags(WorkerSettings)
def worker(*, config: Config = None, **flags: Any) -> None:
    """Run one worker: one device, its engines, jobs from the bus."""
    settings = read(WorkerSettings, flags, config)
    from gpuworker.worker.serve import NothingToServe, serve
    from ops.local.process import run

    process, foreseen = f"worker {settings.id}", (NothingToServe,)
    run(process, settings, serve, level=settings.log_level, form=settings.log_format, foreseen=foreseen)


@app.command(short_help="Speak a text through a running stack.")
@with_flags(ClientSettings)
def say(
    text: Annotated[str, typer.Argument(help="What to say; - reads it from stdin.", metavar="TEXT")],
    *,
    output: Out = None,
    voice: Annotated[str | None, typer.Option(help="One of GET /v1/voices.", metavar="ID")] = None,
    form: Form = None,
    config: Config = None,
    **flags: Any,
) -> None:
    """Speak TEXT through a running stack, into a file or through the loudspeaker."""
    from ops.commands.say import Order, fetch, words

    order = Order(model="speech", input=words(text), voice=voice)
    fetch(read(ClientSettings, flags, config), order, output, form)


@app.command(short_help="Compose music through a running stack.")
@with_flags(ClientSettings)
def compose(
    prompt: Annotated[str, typer.Argument(help="What the music should be like.", metavar="PROMPT")],
    *,
    seconds: Annotated[float, typer.Option(help="How long it should be.", min=0.1, metavar="S")] = 20.0,
    output: Out = None,
    form: Form = None,
    config: Config = None,
    **flags: Any,
) -> None:
    """Compose music for PROMPT through a running stack, into a file or through the loudspeaker."""
    from ops.commands.say import Order, fetch

    order = Order(model="music", input=prompt, seconds=seconds)
    fetch(read(ClientSettings, flags, config), order, output, form)


@app.command()
@with_flags(ClientSettings)
def fleet(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Who works, on what."""
    from ops.commands.show import show_fleet

    show_fleet(read(ClientSettings, flags, config), as_json=json)


app.command(short_help="Ask one worker to hand on what it does, and to end.")(drain)


@jobs_app.command("list")
@with_flags(ClientSettings)
def list_jobs(
    *,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.", min=1, max=1000)] = 20,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Your jobs, newest first."""
    from ops.commands.show import show_jobs

    show_jobs(read(ClientSettings, flags, config), limit, as_json=json)


@jobs_app.command("show")
@with_flags(ClientSettings)
def show_job(job: JobId, *, json: Json = False, config: Config = None, **flags: Any) -> None:
    """State, progress and timings of one job."""
    from ops.commands.show import show_job as show

    show(read(ClientSettings, flags, config), job, as_json=json)


@jobs_app.command("cancel")
@with_flags(ClientSettings)
def cancel_job(job: JobId, *, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Cancel one job; once more does no harm."""
    from ops.commands.show import cancel

    cancel(read(ClientSettings, flags, config), job, as_json=json)


@app.command(short_help="Say what this machine lacks for `antiphon up`.")
@with_flags(UpSettings)
def doctor(
    *,
    nats: Annotated[str | None, typer.Option(help="A NATS to try as well.", metavar="URL")] = None,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Say what `antiphon up`, with the same flags, would miss on this machine, and how to get it."""
    from ops.commands.doctor import examine

    examine(read(UpSettings, flags, config), nats, as_json=json)


@app.command(short_help="Measure a stack of its own against bare aiohttp.")
def bench(
    *,
    rounds: Annotated[int, typer.Option(help="Rounds of every scenario.", min=1, max=100)] = 3,
    json: Json = False,
) -> None:
    """Measure a stack of its own against bare aiohttp, in turn; ratios within a round are what counts."""
    from ops.bench.run import report, run

    typer.echo(report(run(rounds), as_json=json))


@app.command(short_help="Break a stack of its own under load; account for every sample.")
@with_flags(ChaosSettings)
def chaos(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Kill, freeze and cut off the parts of a stack of its own under load, and account for every job and sample."""
    from ops.chaos.cli import run_chaos

    run_chaos(read(ChaosSettings, flags, config), as_json=json)


@app.command(short_help="Load a stack of its own; see that its memory stays flat.")
@with_flags(SoakSettings)
def soak(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Load a stack of its own steadily, with hang-ups, and see that its memory and descriptors stay flat."""
    from ops.chaos.cli import run_soak

    run_soak(read(SoakSettings, flags, config), as_json=json)


def main() -> None:
    """Exit codes: 0 done, 1 not possible, 2 asked for in a way that cannot work."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that knows no `ü` shows `\xfc`: a command that did its work does not end in a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="antiphon")
    except SettingsError as error:
        _end(str(error), UsageRefused.exit_code)
    except OpsError as error:
        _end(str(error), error.exit_code)


def _end(message: str, code: int) -> None:
    print(f"antiphon: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
