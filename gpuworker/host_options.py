"""The command line of the engine host."""

from typing import Any

import msgspec

from bus.settings import LogFormat, LogLevel


class HostOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The host's only argument, as JSON. The file descriptors are inherited."""

    #: The host's end of the socket pair.
    fd: int
    #: Memory of the StepMark.
    mark_fd: int
    #: The `CrashReport`: the host writes its traceback there when it crashes.
    crash_fd: int
    #: Names of the engines to load.
    models: list[str]
    #: As torch names it: `cpu`, `cuda`, `cuda:1`.
    device: str = "cpu"
    #: Engine by model, where it is not the one of that name.
    engines: dict[str, str] = {}
    #: Options by model, checked by the worker.
    engine_options: dict[str, dict[str, Any]] = {}
    #: Whether engines obey `fault` parameters.
    allow_faults: bool = False
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    #: Name of the process in its log lines.
    process: str = "host"
