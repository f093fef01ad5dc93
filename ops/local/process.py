"""Runs a long-running process of ours: limits, logging, the event loop, signals."""

import asyncio
import errno
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import uvloop

from bus.errors import NoServer, Unreachable
from bus.fleet.presence import DuplicateWorkerId
from bus.settings import LogFormat, LogLevel
from bus.telemetry import logging as telemetry
from ops.local.system import raise_file_limit

log = telemetry.logger(__name__)

_CANNOT_LISTEN = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}
#: The flags that an operator changes if an address cannot be bound.
_ADDRESS_FLAGS = "--host or --port of a gateway, --metrics-host or --metrics-port of a worker"

S = TypeVar("S", bound=msgspec.Struct)


def run(
    process: str,
    settings: S,
    serve: Callable[[S, asyncio.Event], Awaitable[None]],
    *,
    level: LogLevel,
    form: LogFormat,
    expected: tuple[type[Exception], ...] = (),
) -> None:
    """Run `serve(settings, stop)` until it returns. SIGTERM and SIGINT set `stop`, a second one exits at once.

    An exception of `serve` is logged as `process.crashed` and becomes exit code 1: in one line if it is `expected` or
    an operator can mend it, with its traceback otherwise.
    """
    telemetry.configure(process, level=level, form=form)
    raise_file_limit()
    log.info("process.started", pid=os.getpid(), settings=repr(settings))
    try:
        uvloop.run(_until_stopped(settings, serve))
    except Exception as error:
        if not (hint := operator_hint(error, expected)):
            raise
        log.critical("process.crashed", exception=hint)
        raise SystemExit(1) from error
    log.info("process.stopped")


def operator_hint(error: Exception, expected: tuple[type[Exception], ...]) -> str:
    """One line that says how to mend `error`; empty for an error that needs its traceback."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, NoServer):
        return f"{error}; start a nats-server there, or give the address of one with --nats"
    if isinstance(error, OSError) and error.errno in _CANNOT_LISTEN and error.filename is None:  # a file has one
        return f"{error.strerror}; choose another address: {_ADDRESS_FLAGS}"
    return str(error) if isinstance(error, (Unreachable, DuplicateWorkerId, *expected)) else ""


async def _until_stopped(settings: S, serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("process.stopping", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await serve(settings, stop)
