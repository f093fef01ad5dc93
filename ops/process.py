"""A long-running process of ours from its first line to its last: limits, logging, the event loop, signals."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import uvloop

from bus import telemetry
from bus.settings import LogFormat, LogLevel
from ops.system import raise_file_limit

log = telemetry.logger(__name__)

S = TypeVar("S", bound=msgspec.Struct)


def run(
    process: str,
    settings: S,
    serve: Callable[[S, asyncio.Event], Awaitable[None]],
    *,
    level: LogLevel,
    form: LogFormat,
) -> None:
    """Run `serve(settings, stop)` until it returns. SIGTERM and SIGINT set `stop`, a second one ends at once.

    Whatever `serve` raises is logged as `process.crashed` and becomes exit code 1.
    """
    telemetry.configure(process, level=level, form=form)
    raise_file_limit()
    log.info("process.started", pid=os.getpid(), settings=repr(settings))
    uvloop.run(_until_stopped(settings, serve))
    log.info("process.stopped")


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
