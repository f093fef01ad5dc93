"""`antiphon voices`: install, list and remove voices while workers run. Every function raises OpsError."""

import asyncio
import hashlib
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from bus.blob_names import is_digest
from bus.blobs.blob import VOICES
from bus.blobs.store import BlobStore
from bus.blobs.upload import uploading
from bus.blobs.voices import InstalledVoice, VoiceRecords, listed
from bus.errors import ApiError
from bus.fleet.messages import DESCRIBE, Heartbeat, Pong
from bus.jobs.client import Bus
from bus.settings import BusSettings
from bus.subjects import is_token
from bus.transport.jetstream import is_missing_stream
from bus.voices import files_digest
from bus.wire import decode
from ops.commands.bus_session import bus_session
from ops.commands.http import run_async
from ops.commands.show import print_fields, print_result, print_table
from ops.commands.voice_source import Download, is_url, licence_in, local_folder
from ops.errors import OpsError, UsageRefused
from ops.local.installable import InstallableVoice, describe

_COLUMNS: Final = ("name", "model", "language", "rate_hz", "bytes", "sha256", "source")
#: Long enough for a heartbeat of every worker.
_HEARTBEATS_S: Final = 1.5
#: Files without a record end after this long.
_KEEP_S: Final = 3600.0
_PIECE_BYTES: Final = 1 << 20
_MAX_LICENCE_LINES: Final = 40


class Request(NamedTuple):
    """The voice to install, as the command line names it."""

    model: str
    name: str
    source: str
    #: Of the files, "" if it is not given.
    sha256: str
    #: The folder of downloads.
    cache: Path
    #: Whether the licence is accepted without a question.
    is_agreed: bool


def show_all(settings: BusSettings, *, as_json: bool) -> None:
    """Print every voice that is installed."""
    result = {"voices": [_view(each) for each in listed(run_async(_all(settings)))]}
    none = "no voice is installed; antiphon has no catalogue yet: antiphon voices install NAME --from FOLDER"
    rows = [{**row, "sha256": row["sha256"][:12]} for row in result["voices"]]
    print_result(result, lambda: print_table(_COLUMNS, rows, none), as_json=as_json)


def install(settings: BusSettings, request: Request, *, as_json: bool) -> None:
    """Check a voice, show its licence and ask, store it, and list it. Nothing is listed before all of it is stored.

    Raises UsageRefused for arguments that cannot be.
    """
    if not is_token(request.name):
        raise UsageRefused(f"NAME: {request.name[:80]!r} must be 1 to 64 characters of A-Z a-z 0-9 _ -")
    if request.sha256 and not is_digest(request.sha256):
        raise UsageRefused(f"--sha256: {request.sha256[:80]!r} must be 64 hexadecimal digits in lower case")
    result = run_async(_install(settings, request))
    print_result(result, lambda: print_fields(result), as_json=as_json)


def remove(settings: BusSettings, model: str, name: str, *, as_json: bool) -> None:
    """Take a voice off the list: no new job gets it. Jobs that were accepted with it go on."""
    result = {"removed": [_view(each) for each in run_async(_remove(settings, model, name))]}
    print_result(result, lambda: print(f"{name} of {model} is removed; accepted jobs go on"), as_json=as_json)


async def _all(settings: BusSettings) -> list[InstalledVoice]:
    async with bus_session(settings) as bus:
        return await VoiceRecords(bus).all()


async def _remove(settings: BusSettings, model: str, name: str) -> list[InstalledVoice]:
    async with bus_session(settings) as bus:
        return await VoiceRecords(bus).remove(model, name)


class _Checked(NamedTuple):
    """A voice whose files are all here, and right."""

    folder: Path
    voice: InstallableVoice
    #: By file.
    digests: dict[str, str]


async def _install(settings: BusSettings, request: Request) -> dict[str, Any]:
    if not is_url(request.source):
        checked = await asyncio.to_thread(_check, request, local_folder(request.source, request.name))
        return await _install_checked(settings, request, checked)
    if not request.sha256:
        raise UsageRefused("--sha256: is required with a URL: `sha256sum FILE… | sha256sum` of the files, by name")
    folder = request.cache.expanduser() / f"{request.name}-{request.sha256[:16]}"
    with _progress() as progress:
        task = progress.add_task(request.name)

        def on_progress(name: str, have: int, total: int | None) -> None:
            progress.update(task, description=name, completed=have, total=total)

        download = Download(request.source, folder, on_progress)
        async with download.alone():
            await download.run((f"{request.name}.onnx.json", f"{request.name}.onnx"))
            progress.stop()
            try:
                checked = await asyncio.to_thread(_check, request, folder)
            except OpsError:
                download.discard()  # they are of no use
                raise
            result = await _install_checked(settings, request, checked)
            download.discard()
            return result


async def _install_checked(settings: BusSettings, request: Request, checked: _Checked) -> dict[str, Any]:
    voice, digests, licence = checked.voice, checked.digests, licence_in(checked.folder)
    ask(request, licence)
    async with bus_session(settings) as bus:
        is_served = await _check_rate(bus, request.model, voice)
        with _progress() as progress:
            num_bytes = await _store(bus, checked, progress)
        record = InstalledVoice(
            model=request.model,
            name=voice.name,
            sha256=files_digest(digests),
            files=digests,
            num_bytes=num_bytes,
            rate_hz=voice.rate_hz,
            voices=voice.voices,
            pace=voice.pace,
            reads=voice.reads,
            licence=licence,
            source=request.source,
            installed_at=bus.clock.now(),
        )
        is_new = await VoiceRecords(bus).install(record)
    if not is_served:
        print(f"no worker serves {request.model} now: antiphon worker --models {request.model}", file=sys.stderr)
    return {**_view(record), "is_new": is_new}


def _check(request: Request, folder: Path) -> _Checked:
    """Raises OpsError for files that are no voice, or not those of the digest."""
    voice, digests = describe(request.model, request.name, folder), {}
    for name in voice.files:
        with (folder / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    found = files_digest(digests)
    if request.sha256 and request.sha256 != found:
        raise OpsError(
            f"--sha256: the files of {request.name} from {request.source} have {found}, not {request.sha256}; nothing "
            "is installed"
        )
    return _Checked(folder, voice, digests)


async def _check_rate(bus: Bus, model: str, voice: InstallableVoice) -> bool:
    """Whether a worker serves the model now. Raises UsageRefused if all that do have another rate."""
    rates = await _served_rates(bus, model)
    if rates and voice.rate_hz not in rates:
        raise UsageRefused(
            f"{voice.name} has {voice.rate_hz} Hz, and the workers of {model} serve "
            f"{', '.join(map(str, sorted(rates)))} Hz: set engines.{model}.rate_hz, in workers of their own"
        )
    return bool(rates)


def ask(request: Request, licence: str) -> None:
    """Show the licence, and ask unless it is accepted already. Raises OpsError if it is not accepted."""
    lines = licence.splitlines() or ["No text of a licence is beside the voice: its publisher says what is allowed."]
    rest = [f"… and {len(lines) - _MAX_LICENCE_LINES} lines more"] if len(lines) > _MAX_LICENCE_LINES else []
    print("\n".join([f"Licence of {request.name}:", *lines[:_MAX_LICENCE_LINES], *rest]), file=sys.stderr)
    if request.is_agreed:
        return
    if not sys.stdin.isatty():
        raise UsageRefused("give --yes to accept the licence, for there is no terminal to ask at")
    print("Install it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise OpsError("the licence is not accepted; nothing is installed")


async def _store(bus: Bus, checked: _Checked, progress: Progress) -> int:
    """Store the files; returns their bytes. One that is stored already is not stored again."""
    folder, store, num_bytes = checked.folder, BlobStore(bus), 0
    try:
        await bus.js.info(store.names.stream)
    except ApiError as error:
        if not is_missing_stream(error):
            raise
        await bus.topology.declare_blobs()
    for name, digest in checked.digests.items():
        size = (folder / name).stat().st_size
        task = progress.add_task(f"store {name}", total=size)
        num_bytes += size
        if await store.find(VOICES, digest) is not None:
            await store.keep(VOICES, digest, expires_at=bus.clock.now() + _KEEP_S)
            progress.update(task, completed=size)
            continue
        with (folder / name).open("rb") as file:
            async with uploading(bus, store, VOICES, declares=False) as upload:
                while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                    await upload.write(piece)
                    progress.advance(task, len(piece))
                if upload.digest != digest:
                    raise OpsError(f"{name} was changed while it was read; nothing is installed")
                await upload.commit(bus.clock.now() + _KEEP_S)
    return num_bytes


async def _served_rates(bus: Bus, model: str) -> set[int]:
    """Rates of the model at the workers that run now; empty without one."""
    if not (await bus.js.info(bus.subjects.jobs_stream))["state"]["consumer_count"]:
        return set()  # no worker has ever been here
    seen: set[str] = set()

    def on_heartbeat(data: bytes) -> None:
        beat = decode(Heartbeat, data)
        if model in beat.models:
            seen.add(beat.id)

    beats = bus.connection.subscribe(bus.subjects.all_heartbeats, lambda message: on_heartbeat(message.data))
    try:
        await asyncio.sleep(_HEARTBEATS_S)
    finally:
        beats.close()
    rates: set[int] = set()
    for worker in seen:
        pong = decode(Pong, (await bus.connection.request(bus.subjects.ping(worker), DESCRIBE, timeout_s=2.0)).data)
        rates |= {card.rate_hz for card in pong.cards if card.name == model}
    return rates


def _view(voice: InstalledVoice) -> dict[str, Any]:
    return {
        "name": voice.name,
        "model": voice.model,
        "language": voice.voices[0].language if voice.voices else "",
        "rate_hz": voice.rate_hz,
        "bytes": voice.num_bytes,
        "sha256": voice.sha256,
        "source": voice.source,
    }


def _progress() -> Progress:
    """Progress bars on stderr; disabled where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
