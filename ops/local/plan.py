"""The plan of `antiphon up`, made before anything is started: models, ports, command lines."""

import sys
from pathlib import Path

import msgspec

from bus.settings import BusSettings
from gpuworker.settings import WorkerSettings
from ops.errors import OpsError, UsageRefused
from ops.local import models
from ops.local.nats_server import HOST
from ops.local.node import SIZES, Node, plan_nodes
from ops.local.system import free_port, ourselves, port_is_free
from ops.settings import ClusterSettings, UpSettings, read


class Plan(msgspec.Struct, frozen=True):
    """The processes to start, with their models and ports."""

    settings: UpSettings
    engines: tuple[str, ...]
    #: The models that these engines serve by their options.
    models: tuple[str, ...]
    http_port: int
    nodes: tuple[Node, ...]
    #: Settings of the children if NATS is a cluster; None: they read their own.
    cluster: ClusterSettings | None
    #: Absolute path of a TOML file for the children.
    config: str | None

    @property
    def http(self) -> str:
        """URL of the gateway."""
        scheme = "https" if self.settings.tls_cert else "http"
        return f"{scheme}://{HOST}:{self.http_port}"

    @property
    def nats(self) -> str:
        """The URLs of all nats-servers, separated by commas."""
        return ",".join(node.url for node in self.nodes)

    @property
    def has_store(self) -> bool:
        """Whether the nodes have stored anything yet."""
        return any((node.folder / "js").exists() for node in self.nodes)

    @property
    def bus(self) -> BusSettings:
        """The settings of the bus that the children read. Raises SettingsError."""
        flags: dict[str, object] = {"nats": self.nats}
        if (cluster := self.cluster) is not None:
            flags |= {"replicas": len(self.nodes), "ack_wait_s": cluster.ack_wait_s}
            flags |= {"request_timeout_s": cluster.request_timeout_s}
        return read(BusSettings, flags, self.config)

    @property
    def workers(self) -> list[str]:
        """Ids of the workers."""
        return [f"w{number}" for number in range(1, self.settings.workers + 1)]

    def gateway_command(self) -> list[str]:
        """The command line of the gateway."""
        settings = self.settings
        more = ["--no-anonymous"] if settings.require_keys else []
        if settings.cors_origins:
            more += ["--cors-origins", ",".join(settings.cors_origins)]
        if settings.allowed_hosts:
            more += ["--allowed-hosts", ",".join(settings.allowed_hosts)]
        more += ["--marking", settings.marking]
        for flag, value in (("--tls-cert", settings.tls_cert), ("--tls-key", settings.tls_key)):
            more += [flag, value] if value else []
        return [*self._command("gateway"), "--port", str(self.http_port), *more]

    def worker_command(self, worker: str) -> list[str]:
        """The command line of the worker with this id."""
        faults = "--allow-faults" if self.settings.allow_faults else "--no-allow-faults"
        flags = ["--id", worker, "--models", ",".join(self.engines), "--slots", str(self.settings.slots), faults]
        options = [part for option in self.settings.engine_option for part in ("--engine-option", option)]
        return [*self._command("worker"), *flags, *options]

    def _command(self, name: str) -> list[str]:
        settings = self.settings
        form = "console" if settings.log_format == "auto" and sys.stderr.isatty() else settings.log_format
        common = ["--nats", self.nats, "--log-level", settings.shown_level, "--log-format", form]
        if (cluster := self.cluster) is not None:
            common += ["--replicas", str(len(self.nodes)), "--ack-wait-s", f"{cluster.ack_wait_s:g}"]
            common += ["--request-timeout-s", f"{cluster.request_timeout_s:g}"]
        config = ["--config", self.config] if self.config else []
        return [*ourselves(), name, *common, "--drain-s", f"{settings.drain_s:g}", *config]


def plan(settings: UpSettings, config: str | None) -> Plan:
    """Choose models and ports. Raises UsageRefused or OpsError, whose message says how to mend it."""
    if settings.http_port and not port_is_free(HOST, settings.http_port):
        raise OpsError(
            f"port {settings.http_port} of {HOST} is taken; choose another with --http-port, 0 means any free one"
        )
    if settings.recover and settings.nats_nodes > 1:
        raise UsageRefused(
            "--recover: is for one nats-server; a member of a cluster that cannot recover a stream gets it from the"
            " others, without a flag"
        )
    if settings.nats_nodes not in SIZES:
        raise UsageRefused(f"--nats-nodes: {settings.nats_nodes} is not one of {', '.join(map(str, SIZES))}")
    state = Path(settings.state).expanduser().absolute() / "nats"
    engines = models.chosen(settings.models)
    options = {"models": list(engines), "engine_option": list(settings.engine_option)}
    return Plan(
        settings=settings,
        engines=engines,
        models=models.served(read(WorkerSettings, options, config)),
        # Chosen here, not by the gateway: after a restart its clients must find it at the same port.
        http_port=settings.http_port or free_port(HOST),
        nodes=plan_nodes(state, settings.nats_nodes, settings.nats_port),
        cluster=read(ClusterSettings, {}, config) if settings.nats_nodes > 1 else None,
        config=str(Path(config).absolute()) if config else None,
    )
