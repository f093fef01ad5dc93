"""What `antiphon up` and the commands that talk HTTP are told, and how every command of ours reads its settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from bus.settings import BusSettings, LogFormat, LogLevel, NatsUrl, Root, Seconds, Token, doc, field_types, load, shaped
from gateway.settings import GatewaySettings
from gpuworker.settings import EngineOptionFlags, WorkerSettings

S = TypeVar("S", bound=msgspec.Struct)

_Port = Annotated[int, Meta(ge=0, le=65_535)]


def default_state() -> str:
    """Where XDG wants what a program keeps for its user: `~/.local/state/antiphon`."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return str(Path(base) / "antiphon")


class UpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The one-machine stack. What is not here reaches its processes through the same variables and the same file."""

    http_port: Annotated[_Port, doc("Where the gateway listens; 0 means any free one.")] = 8080
    nats_port: Annotated[
        _Port, doc("Where the private nats-server listens, others of a cluster right behind it; 0 means any free one.")
    ] = 4222
    nats_nodes: Annotated[int, doc("Private nats-servers: 1, or a cluster of 3 or 5 that outlives one or two.")] = 1
    state: Annotated[str, Meta(min_length=1), doc("Folder of everything that outlives a restart.")] = msgspec.field(
        default_factory=default_state
    )
    workers: Annotated[int, Meta(ge=1, le=64), doc("Worker processes, called w1, w2 and so on.")] = 1
    slots: Annotated[int, Meta(ge=1, le=1024), doc("Jobs that one worker may run at the same time.")] = 8
    models: Annotated[tuple[Token, ...], doc("Engines to serve; all that can be loaded of speech,music,tone.")] = ()
    allow_faults: Annotated[bool, doc("Obey the `fault` parameter of `tone`: tests and chaos only.")] = False
    engine_option: EngineOptionFlags = ()
    require_keys: Annotated[bool, doc("Refuse callers without an API key.")] = False
    drain_s: Annotated[float, Meta(ge=0, le=86_400), doc("On SIGTERM running jobs may finish for this long.")] = 5.0
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is otherwise by default where NATS is a cluster."""

    #: Above the pause of an election, in which no worker can say that it lives.
    ack_wait_s: Seconds = 12.0
    #: What was asked of a leader that died is never answered: ask the next one soon.
    request_timeout_s: Seconds = 2.0


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running gateway is, and who asks, for the commands that ask it something."""

    url: Annotated[
        str, shaped(r"^https?://[^\s/]+", "a URL like http://127.0.0.1:8080"), doc("The gateway's address.")
    ] = "http://127.0.0.1:8080"
    #: A secret: never printed.
    api_key: Annotated[str, doc("Where one is needed. Better in ANTIPHON_API_KEY: others see a command's flags.")] = ""


class VisitorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running deployment's bus is, for the commands that go to it without a gateway."""

    nats: NatsUrl = "nats://127.0.0.1:4222"
    root: Root = "antiphon"

    @property
    def bus(self) -> BusSettings:
        return BusSettings(nats=self.nats, root=self.root)


_SIBLINGS = (UpSettings, ClientSettings, GatewaySettings, WorkerSettings)


def read(kind: type[S], flags: Mapping[str, object], config: str | None = None) -> S:
    """Settings of one process from `flags`, the environment and the file `config` or `ANTIPHON_CONFIG`.

    Raises SettingsError. The names of all our processes are known to each: they share one environment.
    """
    file = config or os.environ.get("ANTIPHON_CONFIG")
    known = {"config"}.union(*(field_types(sibling) for sibling in _SIBLINGS))
    return load(kind, flags, os.environ, Path(file) if file else None, also_known=known)
