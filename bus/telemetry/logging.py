"""Logging: one event per line on stderr, JSON, or a console for people when stderr is a terminal.

The only module that imports structlog. All others:

    from bus.telemetry.logging import bound, logger
    log = logger(__name__)
    with bound(job=job.id):
        log.info("job.started", attempt=1)

Names and fields are an API: `bus/telemetry/events.py` is their table. Lines that libraries write through stdlib logging
become one event, `library.logged`, so that every line has one shape.

Metrics are counted from the same calls (`observed`), whatever the log level: code reports an act once.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from bus.settings import LogFormat, LogLevel

_Processor = Callable[[WrappedLogger, str, EventDict], EventDict]
#: Receives the fields of one event, without the bound context.
Observer = Callable[[Mapping[str, Any]], None]
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_OBSERVERS: Final[dict[str, tuple[Observer, ...]]] = {}
#: API keys, without their ids, and JSON Web Tokens: a library may quote a malformed request in its log line.
_SECRET: Final = re.compile(r"(?P<id>ak-[0-9a-f]{12}-)[\w-]{8,}|(?P<head>\bey)[\w-]+\.[\w-]+\.[\w-]+")


def logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry `module: name`. Cheap; it reads the configuration at its first line."""
    return cast("FilteringBoundLogger", structlog.get_logger(module=name))


def bound(**context: object) -> AbstractContextManager[None]:
    """Add `context` to every line logged in the block, by tasks started in it too; restore the old context after."""
    return structlog.contextvars.bound_contextvars(**context)


@contextmanager
def observed(event: str, observer: Observer) -> Iterator[None]:
    """Call `observer` at every `event` that is logged in the block, below the log level too, in the logging thread.

    Works once `configure` has been called. An exception of `observer` reaches the line that logs.
    """
    _OBSERVERS[event] = (*_OBSERVERS.get(event, ()), observer)
    try:
        yield
    finally:
        _OBSERVERS[event] = tuple(other for other in _OBSERVERS[event] if other is not observer)


def _observable(base: type[FilteringBoundLogger]) -> type[FilteringBoundLogger]:
    """Return a subclass of `base` that calls `_OBSERVERS` before it drops events below its level."""

    def method(level: str) -> Callable[..., Any]:
        write = getattr(base, level)

        def log(self: FilteringBoundLogger, event: str, *args: object, **fields: object) -> Any:
            for observer in _OBSERVERS.get(event, ()):
                observer(fields)
            return write(self, event, *args, **fields)

        return log

    # `exception` calls `error`.
    return type("ObservableLogger", (base,), {level: method(level) for level in _LEVELS})


def configure(
    process: str, *, level: LogLevel = "info", form: LogFormat = "auto", stream: TextIO | None = None
) -> None:
    """Write all log lines of this process to `stream` (default: stderr), with `process`. Call it once, in `main`."""
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    shared: list[_Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_process(process),
    ]
    ending = _console(out) if console else _json()
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=_observable(structlog.make_filtering_bound_logger(number)),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    _adopt_stdlib(out, number, [*shared, _as_event], ending)
    sys.excepthook = _crashed


def _add_process(process: str) -> _Processor:
    def processor(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    return processor


def _json() -> list[_Processor]:
    renderer = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return [structlog.processors.format_exc_info, cast("_Processor", renderer), cast("_Processor", _without_secrets)]


def _console(out: TextIO) -> list[_Processor]:
    colours = "NO_COLOR" not in os.environ and (out.isatty() or "FORCE_COLOR" in os.environ)
    plain = structlog.dev.plain_traceback
    renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)
    return [cast("_Processor", renderer), cast("_Processor", _without_secrets)]


def _without_secrets(_: WrappedLogger, __: str, line: str) -> str:
    return _SECRET.sub(lambda found: f"{found['id'] or found['head']}…", line)


def _as_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Turn a library's free text into the event `library.logged`, with the text in `message`."""
    record: logging.LogRecord = event["_record"]
    event["message"] = event["event"]
    event["event"] = "library.logged"
    event["module"] = record.name
    return event


def _adopt_stdlib(out: TextIO, level: int, before: list[_Processor], ending: list[_Processor]) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    # The gateway logs requests itself, with the fields of our table.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    # A warning for each handshake that offers subprotocols, with all of them.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)


def _crashed(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logger(__name__).critical("process.crashed", exc_info=(kind, error, traceback))
