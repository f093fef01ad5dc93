"""Settings of `antiphon up` and of the operator's commands, and the function by which every command reads its own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from bus.marking import DEFAULT_MARKING
from bus.settings import (
    BusSettings,
    LogFormat,
    LogLevel,
    NatsCa,
    NatsUrl,
    Root,
    Seconds,
    Token,
    doc,
    field_types,
    load,
    matching,
)
from gateway.settings import DefaultMarking, GatewaySettings, HostName, Origin
from gpuworker.settings import EngineOptionFlags, WorkerSettings

S = TypeVar("S", bound=msgspec.Struct)

_Port = Annotated[int, Meta(ge=0, le=65_535)]


def default_state() -> str:
    """The folder for a program's state by the XDG convention: `~/.local/state/antiphon`."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return str(Path(base) / "antiphon")


class UpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The one-machine stack. Its processes read all other settings from the same variables and the same file."""

    http_port: Annotated[_Port, doc("Port of the gateway; 0 means any free one.")] = 8080
    nats_port: Annotated[
        _Port, doc("Port of the private nats-server, a cluster takes the ports after it too; 0 means any free one.")
    ] = 4222
    nats_nodes: Annotated[
        int, doc("Private nats-servers: 1, or 3 or 5 as a cluster, which survives one or two losses.")
    ] = 1
    state: Annotated[
        str,
        Meta(min_length=1),
        doc("Folder for everything that survives a restart; default ~/.local/state/antiphon."),
    ] = msgspec.field(default_factory=default_state)
    workers: Annotated[int, Meta(ge=1, le=64), doc("Worker processes, called w1, w2 and so on.")] = 1
    slots: Annotated[int, Meta(ge=1, le=1024), doc("Jobs that one worker may run at the same time.")] = 8
    models: Annotated[
        tuple[Token, ...],
        doc("Engines to serve; by default those of speech,music,tone,piper that this machine can load."),
    ] = ()
    allow_faults: Annotated[bool, doc("Obey the `fault` parameter of `tone`: tests and chaos only.")] = False
    engine_option: EngineOptionFlags = ()
    require_keys: Annotated[bool, doc("Refuse callers without an API key.")] = False
    cors_origins: Annotated[
        tuple[Origin, ...], doc("Origins whose pages may send requests, as in https://app.example.org; * is all.")
    ] = ()
    allowed_hosts: Annotated[
        tuple[HostName, ...],
        doc("More names by which callers without a key reach a gateway on loopback, as in host.docker.internal."),
    ] = ()
    marking: DefaultMarking = DEFAULT_MARKING
    tls_cert: Annotated[str, doc("PEM file with a certificate; then the gateway speaks https alone.")] = ""
    tls_key: Annotated[str, doc("PEM file with the certificate's private key, not encrypted.")] = ""
    drain_s: Annotated[float, Meta(ge=0, le=86_400), doc("On SIGTERM running jobs may finish for this long.")] = 5.0
    recover: Annotated[
        bool, doc("Move streams that nats-server cannot recover out of its store, and go on without them.")
    ] = False
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"

    @property
    def shown_level(self) -> LogLevel:
        """The level of the log lines that are shown: a person at a terminal who has chosen nothing gets no `info`."""
        is_quiet = self.log_format == "auto" and self.log_level == "info" and sys.stderr.isatty()
        return "warning" if is_quiet else self.log_level


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults that differ where NATS is a cluster."""

    #: Longer than an election, during which NATS takes no sign of life of a worker.
    ack_wait_s: Seconds = 12.0
    #: A leader that dies never answers its requests: the next one must get them soon.
    request_timeout_s: Seconds = 2.0


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a running gateway and the API key, for the commands that use HTTP."""

    url: Annotated[
        str, matching(r"^https?://[^\s/]+", "a URL like http://127.0.0.1:8080"), doc("The gateway's address.")
    ] = "http://127.0.0.1:8080"
    #: A secret: never printed.
    api_key: Annotated[
        str, doc("API key. Better in ANTIPHON_API_KEY: other users of the machine see the flags of a command.")
    ] = ""
    ca: Annotated[str, doc("File of certificates to trust besides the system's, for https.")] = ""


class OperatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a running deployment's bus, for the commands that use NATS, without a gateway."""

    nats: NatsUrl = "nats://127.0.0.1:4222"
    nats_ca: NatsCa = ""
    root: Root = "antiphon"

    @property
    def bus(self) -> BusSettings:
        """The settings of a connection to it."""
        return BusSettings(nats=self.nats, nats_ca=self.nats_ca, root=self.root)


_SIBLINGS = (UpSettings, ClientSettings, GatewaySettings, WorkerSettings)


def read(kind: type[S], flags: Mapping[str, object], config: str | None = None) -> S:
    """The settings of one process from `flags`, the environment and the file `config` or `ANTIPHON_CONFIG`.

    Names of settings of our other processes are no error: all share one environment and one file. Raises SettingsError.
    """
    file = config or os.environ.get("ANTIPHON_CONFIG")
    known = {"config"}.union(*(field_types(sibling) for sibling in _SIBLINGS))
    return load(kind, flags, os.environ, Path(file) if file else None, also_known=known)
