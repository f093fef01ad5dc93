"""What a worker process is told at its start."""

import secrets
from typing import Annotated

import msgspec
from msgspec import Meta

from bus.settings import BusSettings, LogFormat, LogLevel, Seconds, Token, doc


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    bus: BusSettings = msgspec.field(default_factory=BusSettings)
    id: Annotated[Token, doc("Unique in the fleet, one subject token; random unless given.")] = msgspec.field(
        default_factory=lambda: f"w{secrets.token_hex(4)}"
    )
    models: Annotated[tuple[Token, ...], Meta(min_length=1), doc("Engines to serve, by their names.")] = (
        "speech",
        "tone",
    )
    slots: Annotated[int, Meta(ge=1, le=1024), doc("Jobs that may run at the same time.")] = 8
    device: Annotated[str, Meta(min_length=1), doc("As torch names it: cpu, cuda, cuda:1.")] = "cpu"
    drain_s: Annotated[
        float,
        Meta(ge=0, le=86_400),
        doc("On SIGTERM running jobs may finish for this long; then they are handed back mid-stream."),
    ] = 30.0
    stall_s: Annotated[Seconds, doc("An engine that makes no progress for this long has lost its job.")] = 30.0
    allow_faults: Annotated[bool, doc("Obey the `fault` parameter of `tone`: tests and chaos only.")] = False
    max_attempts: Annotated[int, Meta(ge=1, le=1000), doc("A job is given up after this many attempts.")] = 5
    max_host_deaths: Annotated[
        int, Meta(ge=1, le=1000), doc("A job in which so many engine hosts died is given up at once.")
    ] = 2
    host_start_s: Annotated[Seconds, doc("The engine host must answer within this time of its start.")] = 60.0
    weight: Annotated[
        int,
        Meta(ge=1, le=1000),
        doc("Busy workers of the same models start jobs in proportion to their weights."),
    ] = 1
    backup: Annotated[bool, doc("Take jobs only while no other worker of these models is free to.")] = False
    max_fails: Annotated[
        int, Meta(ge=0, le=1000), doc("After so many failures of the engine within fail_timeout_s it pauses; 0: never.")
    ] = 2
    fail_timeout_s: Annotated[
        Seconds, doc("The window of max_fails, and how long the worker then takes nothing before it tries one job.")
    ] = 30.0
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65_535)] | None,
        doc("Serve Prometheus metrics at /metrics of this port; 0 means any free one. Not at all if not given."),
    ] = None
    metrics_host: Annotated[str, Meta(min_length=1), doc("Where: whoever reaches it may read them.")] = "127.0.0.1"
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
