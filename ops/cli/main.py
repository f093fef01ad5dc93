"""The command `antiphon`: names and flags only.

Each command imports its modules when it runs, so that `--help` is quick and a gateway loads no module of a worker.
"""

import io
import sys
from typing import Annotated, Any, Final, Literal

import msgspec
import typer

from bus.settings import SettingsError
from gateway.settings import GatewaySettings
from gpuworker.settings import WorkerSettings
from ops.chaos.settings import ChaosSettings, SoakSettings
from ops.cli.bus import dead_app, drain, mend
from ops.cli.detect import detect
from ops.cli.engine import engine_app
from ops.cli.flags import with_flags
from ops.cli.keys import keys_app
from ops.cli.routes import routes_app
from ops.cli.voices import voices_app
from ops.errors import OpsError, UsageRefused
from ops.settings import ClientSettings, UpSettings, read

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
jobs_app = typer.Typer(help="List, show and cancel jobs.", no_args_is_help=True)
_GROUPS: Final = {"jobs": jobs_app, "dead": dead_app, "keys": keys_app, "route": routes_app, "engine": engine_app}
for _name, _group in (*_GROUPS.items(), ("voices", voices_app)):
    app.add_typer(_group, name=_name)

Config = Annotated[str | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Ready = Annotated[bool, typer.Option("--json", help="Print one line of JSON once requests succeed.")]
Out = Annotated[
    str | None,
    typer.Option("-o", "--output", help="A file, or - for stdout; without it the audio is played.", metavar="FILE"),
]
Form = Annotated[
    str | None,
    typer.Option(
        "--format", help="Audio format, such as mp3 or wav; by default the ending of the file's name.", metavar="TEXT"
    ),
]
Version = Annotated[
    bool, typer.Option("--version", help="Print the version.", callback=lambda given: _print_version(given=given))
]
JobId = Annotated[
    str, typer.Argument(help="A job's id, from `antiphon jobs list` or the header Antiphon-Job.", metavar="JOB")
]


@app.callback()
def antiphon(*, version: Version = False) -> None:
    """Serve generated audio from a fleet of GPU workers over a durable message bus."""


def _print_version(*, given: bool) -> None:
    if given:
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

    run("up", settings, serve(config, as_json=json), level=settings.shown_level, form=settings.log_format)


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
    from ops.local.models import chosen
    from ops.local.process import run

    if not settings.models:
        settings = msgspec.structs.replace(settings, models=chosen(()))

    process, expected = f"worker {settings.id}", (NothingToServe,)
    run(process, settings, serve, level=settings.log_level, form=settings.log_format, expected=expected)


@app.command(short_help="Speak a text through a running stack.")
@with_flags(ClientSettings)
def say(
    text: Annotated[str | None, typer.Argument(help="The text; - reads it from stdin.", metavar="TEXT")] = None,
    *,
    script: Annotated[
        str | None,
        typer.Option(
            help='Instead of TEXT a JSON file of turns, [{"speaker", "text", "voice"}, …]; - reads stdin.',
            metavar="FILE",
        ),
    ] = None,
    output: Out = None,
    model: Annotated[str, typer.Option(help="A model of GET /v1/models.", metavar="NAME")] = "speech",
    voice: Annotated[str | None, typer.Option(help="A voice of GET /v1/voices.", metavar="ID")] = None,
    form: Form = None,
    config: Config = None,
    **flags: Any,
) -> None:
    """Speak TEXT or a script through a running stack, into a file or through the loudspeaker."""
    from ops.commands.say import SpeechRequest, fetch, spoken

    speech = SpeechRequest(model=model, voice=voice, **spoken(text, script))
    fetch(read(ClientSettings, flags, config), speech, output, form)


@app.command(short_help="Compose music through a running stack.")
@with_flags(ClientSettings)
def compose(
    prompt: Annotated[str, typer.Argument(help="A description of the music.", metavar="PROMPT")],
    *,
    seconds: Annotated[float, typer.Option(help="Length of the music in seconds.", min=0.1, metavar="S")] = 20.0,
    output: Out = None,
    form: Form = None,
    config: Config = None,
    **flags: Any,
) -> None:
    """Compose music for PROMPT through a running stack, into a file or through the loudspeaker."""
    from ops.commands.say import SpeechRequest, fetch

    music = SpeechRequest(model="music", input=prompt, seconds=seconds)
    fetch(read(ClientSettings, flags, config), music, output, form)


@app.command()
@with_flags(ClientSettings)
def fleet(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """List the workers with their state, models and load."""
    from ops.commands.show import show_fleet

    show_fleet(read(ClientSettings, flags, config), as_json=json)


app.command(short_help="Stop one worker; its jobs go on elsewhere.")(drain)
app.command(short_help="End and list the jobs that a damaged store has lost.")(mend)
app.command(short_help="Find the marks of synthetic audio in a file.")(detect)


@jobs_app.command("list")
@with_flags(ClientSettings)
def list_jobs(
    *,
    limit: Annotated[int, typer.Option(help="Maximum number of jobs, newest first.", min=1, max=1000)] = 20,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """List your jobs, newest first."""
    from ops.commands.show import show_jobs

    show_jobs(read(ClientSettings, flags, config), limit, as_json=json)


@jobs_app.command("show")
@with_flags(ClientSettings)
def show_job(job: JobId, *, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Show state, progress and timings of one job."""
    from ops.commands.show import show_job as show

    show(read(ClientSettings, flags, config), job, as_json=json)


@jobs_app.command("cancel")
@with_flags(ClientSettings)
def cancel_job(job: JobId, *, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Cancel one job; a job that has ended stays as it is."""
    from ops.commands.show import cancel

    cancel(read(ClientSettings, flags, config), job, as_json=json)


@app.command(short_help="Check this machine for `antiphon up`.")
@with_flags(UpSettings)
def doctor(
    *,
    nats: Annotated[str | None, typer.Option(help="A NATS server to check too.", metavar="URL")] = None,
    json: Json = False,
    config: Config = None,
    **flags: Any,
) -> None:
    """Check what `antiphon up` with the same flags needs on this machine, and print how to get what is missing."""
    from ops.commands.doctor import examine

    examine(read(UpSettings, flags, config), nats, as_json=json)


@app.command(short_help="Measure a stack of its own: its speed, its pools, its voices, or a chain of two.")
def bench(
    measure: Annotated[
        Literal["speed", "isolation", "quality", "voice", "upstream"],
        typer.Argument(
            help="speed: against bare aiohttp. isolation: one tenant while another floods each pool. "
            "quality: how many words of a voice a recogniser understands. "
            "voice: how soon voices sound, and how fast they are made. "
            "upstream: what a second Antiphon in front adds to the first sound."
        ),
    ] = "speed",
    *,
    rounds: Annotated[int, typer.Option(help="Rounds of every scenario.", min=1, max=100)] = 3,
    pools: Annotated[str, typer.Option(help="isolation: pools to flood; by default all.", metavar="A,B")] = "",
    seconds: Annotated[float, typer.Option(help="isolation: time of one measurement.", min=1, max=600)] = 15.0,
    voice: Annotated[
        str, typer.Option(help="quality, voice: the voices; by default all of --voices, and en-us.", metavar="A,B")
    ] = "",
    voices: Annotated[str, typer.Option(help="quality, voice: Piper voices.", metavar="FOLDER")] = "",
    whisper: Annotated[str, typer.Option(help="quality: Whisper tiny.en for faster-whisper.", metavar="FOLDER")] = "",
    json: Json = False,
) -> None:
    """Measure stacks of its own in turn; compare ratios within a round, not absolute figures."""
    chosen = [each for each in voice.split(",") if each]
    if measure == "speed":
        from ops.bench import run as speed

        text = speed.report(speed.run(rounds), as_json=json)
    elif measure == "voice":
        from ops.bench import first_sound

        text = first_sound.report(first_sound.run(chosen, voices, rounds), as_json=json)
    elif measure == "quality":
        from ops.bench import judge, quality

        text = quality.report(quality.run(chosen, voices, judge.Judge(judge.find_model(whisper))), as_json=json)
    elif measure == "upstream":
        from ops.bench import upstream

        text = upstream.report(upstream.run(rounds), as_json=json)
    else:
        from ops.bench import isolation

        text = isolation.report(isolation.run(isolation.chosen(pools), rounds, seconds), as_json=json)
    typer.echo(text)


@app.command(short_help="Inject faults into a stack of its own, and check every sample.")
@with_flags(ChaosSettings)
def chaos(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Kill, freeze and disconnect parts of a stack of its own under load, and account for every job and sample."""
    from ops.chaos.cli import run_chaos

    run_chaos(read(ChaosSettings, flags, config), as_json=json)


@app.command(short_help="Load a stack of its own, and check that its memory stays flat.")
@with_flags(SoakSettings)
def soak(*, json: Json = False, config: Config = None, **flags: Any) -> None:
    """Load a stack of its own steadily, with clients that hang up, and check that memory and descriptors stay flat."""
    from ops.chaos.cli import run_soak

    run_soak(read(SoakSettings, flags, config), as_json=json)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 wrong usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without the letter `ü` shows `\xfc`: a command that has done its work must not end in a traceback.
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
