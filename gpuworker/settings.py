"""Settings of a worker process."""

import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bus.settings import BusSettings, Bytes, LogFormat, LogLevel, Seconds, Token, doc, matching, repeatable

EngineOptionFlags = Annotated[
    tuple[
        Annotated[
            str,
            matching(
                r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64})?\.[A-Za-z0-9_]+=",
                "like tone.allow_faults=true, engine and option",
            ),
        ],
        ...,
    ],
    repeatable(
        "NAME.KEY=VALUE",
        "One option of an engine; overrides the file's table [engines.NAME]; NAME.MODEL.KEY for one of its models; "
        "repeatable.",
    ),
]


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting is a flag, a variable and a line of the TOML file; `engines` and `quality` are its tables alone."""

    bus: BusSettings = msgspec.field(default_factory=BusSettings)
    id: Annotated[Token, doc("Unique in the fleet, one subject token; random unless given.")] = msgspec.field(
        default_factory=lambda: f"w{secrets.token_hex(4)}"
    )
    models: Annotated[
        tuple[Token, ...],
        doc("Engines to serve; by default those of speech,music,tone,piper that this machine can load."),
    ] = ()
    #: Options by engine: a table `[engines.NAME]` of the file for each.
    engines: dict[str, dict[str, Any]] = {}
    engine_option: EngineOptionFlags = ()
    #: Limits of the audio of a model, by model: a table `[quality.MODEL]` of the file for each.
    quality: dict[str, dict[str, Any]] = {}
    slots: Annotated[int, Meta(ge=1, le=1024), doc("Jobs that may run at the same time.")] = 8
    device: Annotated[str, Meta(min_length=1), doc("As torch names it: cpu, cuda, cuda:1.")] = "cpu"
    drain_s: Annotated[
        float,
        Meta(ge=0, le=86_400),
        doc("On SIGTERM running jobs may finish for this long; then they are handed back mid-stream."),
    ] = 30.0
    stall_s: Annotated[Seconds, doc("A job whose engine makes no progress for this long is taken from it.")] = 30.0
    allow_faults: Annotated[bool, doc("Obey the `fault` parameter of `tone`: tests and chaos only.")] = False
    max_attempts: Annotated[int, Meta(ge=1, le=1000), doc("A job fails after this many attempts.")] = 5
    max_host_deaths: Annotated[
        int,
        Meta(ge=1, le=1000),
        doc("A job fails once this many engine hosts, the processes that own a device, have died in it."),
    ] = 2
    host_start_s: Annotated[
        Seconds, doc("Models that have not loaded this long after the start of the worker are reported as slow.")
    ] = 60.0
    weight: Annotated[
        int,
        Meta(ge=1, le=1000),
        doc("Busy workers of the same models start jobs in proportion to their weights."),
    ] = 1
    backup: Annotated[bool, doc("Take a job only if no other worker of these models has a free slot.")] = False
    max_fails: Annotated[
        int,
        Meta(ge=0, le=1000),
        doc("After this many failures of the engine within fail_timeout_s the worker pauses; 0: never."),
    ] = 2
    fail_timeout_s: Annotated[
        Seconds, doc("The window of max_fails, and how long the worker then takes no job before it tries one.")
    ] = 30.0
    blob_cache: Annotated[
        str, doc("Folder for files that jobs name; if not given, one of this process alone, which ends with it.")
    ] = ""
    blob_cache_bytes: Annotated[Bytes, doc("Limit of the files in that folder; the longest unused ones go first.")] = (
        4 << 30
    )
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65_535)] | None,
        doc("Serve Prometheus metrics at /metrics of this port; 0 means any free one. Not at all if not given."),
    ] = None
    metrics_host: Annotated[
        str, Meta(min_length=1), doc("Address of the metrics; every host that reaches it may read them.")
    ] = "127.0.0.1"
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"

    def __repr__(self) -> str:
        """Without the values of engine options, which may be secrets: this text is logged."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if not name.startswith("engine")}
        shown["engines"] = sorted(self.configured_engines)
        return f"WorkerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def options_of(self, engine: str) -> dict[str, Any]:
        """Options of one engine by name, unchecked; values from `engine_option` are text and win over the file's."""
        options = dict(self.engines.get(engine, {}))
        for assignment in self.engine_option:
            path, _, value = assignment.partition("=")
            name, *model, key = path.split(".")
            if name == engine and model:  # of one of its models
                options[model[0]] = {**options.get(model[0], {}), key: value}
            elif name == engine:
                options[key] = value
        return options

    def engine_of(self, model: str) -> tuple[str, dict[str, Any]]:
        """The engine that serves `model`, one of its own name or one with a table for it, and the model's options."""
        if model not in self.models:
            for engine in self.models:
                table = self.options_of(engine).get(model)
                if isinstance(table, dict):
                    return engine, table
        return model, self.options_of(model)

    @property
    def known_models(self) -> set[str]:
        """Names of the models that these settings speak of: those that are served, and those of tables of engines."""
        return {*self.models, *(model for engine in self.engines for model in self.options_of(engine))}

    @property
    def configured_engines(self) -> set[str]:
        """Names of the engines that have options here, whether or not they are served or exist."""
        return {*self.engines, *(assignment.partition(".")[0] for assignment in self.engine_option)}
