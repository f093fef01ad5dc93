"""The processes under test: nats-servers, gateways, workers; each started again as soon as it dies."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from bus.settings import BusSettings
from ops.chaos.nodes import Node, nodes
from ops.chaos.process import Process
from ops.errors import OpsError
from ops.local.nats_server import HOST
from ops.local.system import ourselves, port_is_free

#: Below the kernel's range of ports for outgoing connections: none of those can take a port while its server is down.
_PORTS: Final = range(20_000, 30_000)


@dataclass(frozen=True, slots=True)
class StackSpec:
    """The processes to start, and their settings."""

    workers: int
    gateways: int
    #: Jobs that one worker runs at the same time.
    slots: int
    models: tuple[str, ...]
    ack_wait_s: float
    max_store_bytes: int
    replies_max_bytes: int
    #: Size of a file system that holds only the store, so that it can become full; 0: none. Needs root.
    disk_bytes: int = 0
    #: nats-servers; more than one form a cluster, with a copy of every stream on each.
    nats_nodes: int = 1


@dataclass(frozen=True, slots=True)
class Stack:
    """The processes of a stack that `running` started."""

    nodes: list[Node]
    gateways: list[Process]
    workers: list[Process]
    #: Of the gateways, in their order.
    urls: list[str]
    settings: BusSettings

    @property
    def processes(self) -> list[Process]:
        """All of them, nats-servers first."""
        return [*(node.process for node in self.nodes), *self.gateways, *self.workers]


@asynccontextmanager
async def running(folder: Path, spec: StackSpec) -> AsyncIterator[Stack]:
    """Start everything under `folder`, which keeps the logs; stop everything after the block.

    Raises OpsError if nats-server does not come up.
    """
    count = spec.nats_nodes
    with ExitStack() as cleanup:
        ports = _ports(spec.gateways + (count if count == 1 else 2 * count))
        gateway_ports, nats_ports = ports[: spec.gateways], ports[spec.gateways :]
        servers = nodes(folder, nats_ports, spec.max_store_bytes, cleanup)
        cleanup.enter_context(_disk(servers[0].store, spec.disk_bytes))
        settings = BusSettings(
            nats=",".join(node.url for node in servers),
            ack_wait_s=spec.ack_wait_s,
            replies_max_bytes=spec.replies_max_bytes,
            replicas=count,
        )
        gateways = [
            Process(f"gateway-{port}", _argv("gateway", settings, "--port", str(port)), folder / f"gateway-{port}.log")
            for port in gateway_ports
        ]
        workers = [_worker(f"w{number}", settings, spec, folder) for number in range(1, spec.workers + 1)]
        stack = Stack(servers, gateways, workers, [f"http://{HOST}:{port}" for port in gateway_ports], settings)
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(node.process.keep()) for node in servers]
            try:
                await asyncio.gather(*(node.healthy() for node in servers))
                keepers += [group.create_task(process.keep()) for process in (*gateways, *workers)]
                yield stack
                for some in (workers, gateways, [node.process for node in servers]):
                    await asyncio.gather(*(process.stop() for process in some))
            finally:
                for keeper in keepers:
                    keeper.cancel()


@contextmanager
def _disk(folder: Path, num_bytes: int) -> Iterator[None]:
    """Mount a small file system at `folder` for the length of the block. Raises OpsError if that is not permitted."""
    if not num_bytes:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "antiphon-chaos", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OpsError(f"--kinds disk mounts a small file system, which needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _ports(count: int) -> list[int]:
    found = (port for port in random.sample(_PORTS, len(_PORTS)) if port_is_free(HOST, port))
    return list(islice(found, count))


def _argv(command: str, settings: BusSettings, *flags: str) -> Callable[[], Sequence[str]]:
    argv = [
        *(*ourselves(), command, "--nats", settings.nats, "--root", settings.root),
        *("--replicas", str(settings.replicas), "--ack-wait-s", f"{settings.ack_wait_s:g}"),
        *("--replies-max-bytes", str(settings.replies_max_bytes)),
        *("--log-format", "json", "--log-level", "info", "--drain-s", "3", *flags),
    ]
    return lambda: argv


def _worker(name: str, settings: BusSettings, spec: StackSpec, folder: Path) -> Process:
    """Both limits are above the number of faults that strike one job: a worker cannot tell an injected kill of its host
    from a job that kills it, and only poisonous jobs may be given up."""
    flags = ("--id", name, "--models", ",".join(spec.models), "--slots", str(spec.slots))
    more = ("--allow-faults", "--stall-s", "5", "--max-attempts", "100", "--max-host-deaths", "4")
    return Process(name, _argv("worker", settings, *flags, *more), folder / f"{name}.log")
