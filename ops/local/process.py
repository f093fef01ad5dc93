"""A long-running process of ours from its first line to its last: limits, logging, the event loop, signals."""

import asyncio
import errno
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import uvloop

from bus.errors import NoServer, Unreachable
from bus.fleet.presence import TwoWorkers
from bus.settings import LogFormat, LogLevel
from bus.telemetry import logging as telemetry
from ops.local.system import raise_file_limit

log = telemetry.logger(__name__)

_CANNOT_LISTEN = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}
_ADDRESS = "--host or --port of a gateway, --metrics-host or --metrics-port of a worker"

S = TypeVar("S", bound=msgspec.Struct)


def run(
    process: str,
    settings: S,
    serve: Callable[[S, asyncio.Event], Awaitable[None]],
    *,
    level: LogLevel,
    form: LogFormat,
    foreseen: tuple[type[Exception], ...] = (),
) -> None:
    """Run `serve(settings, stop)` until it returns. SIGTERM and SIGINT set `stop`, a second one ends at once.

    Whatever `serve` raises is logged as `process.crashed` and becomes exit code 1. What an operator can mend, and what
    is `foreseen`, is told in one line, all else with its traceback.
    """
    telemetry.configure(process, level=level, form=form)
    raise_file_limit()
    log.info("process.started", pid=os.getpid(), settings=repr(settings))
    try:
        uvloop.run(_until_stopped(settings, serve))
    except Exception as error:
        if not (told := _one_line(error, foreseen)):
            raise
        log.critical("process.crashed", exception=told)
        raise SystemExit(1) from error
    log.info("process.stopped")


def _one_line(error: Exception, foreseen: tuple[type[Exception], ...]) -> str:
    """What to do about it; empty if only a traceback tells."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, NoServer):
        return f"{error}; start a nats-server there, or say with --nats where one is"
    if isinstance(error, OSError) and error.errno in _CANNOT_LISTEN and error.filename is None:  # a file has one
        return f"{error.strerror}; choose another address: {_ADDRESS}"
    return str(error) if isinstance(error, (Unreachable, TwoWorkers, *foreseen)) else ""


async def _until_stopped(settings: S, serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("process.stopping", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    await serve(settings, stop)
