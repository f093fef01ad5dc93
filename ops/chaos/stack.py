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

_PORTS: Final = range(20_000, 30_000)


@dataclass(frozen=True, slots=True)
class Size:
    """What to start, and how it is set."""

    workers: int
    gateways: int
    slots: int
    models: tuple[str, ...]
    ack_wait_s: float
    max_store_bytes: int
    replies_max_bytes: int
    #: A file system of its own for the store, of so many bytes, so that it can become full; 0: none. Needs root.
    disk_bytes: int = 0
    #: More than one: a cluster, every stream with a copy on each.
    nats_nodes: int = 1


class Stack:
    """Made by `running`."""

    def __init__(
        self, nodes: list[Node], gateways: list[Process], workers: list[Process], urls: list[str], settings: BusSettings
    ) -> None:
        self.nodes, self.gateways, self.workers, self.urls, self.settings = nodes, gateways, workers, urls, settings

    @property
    def processes(self) -> list[Process]:
        return [*(node.process for node in self.nodes), *self.gateways, *self.workers]


@asynccontextmanager
async def running(folder: Path, size: Size) -> AsyncIterator[Stack]:
    """Start everything under `folder`, which keeps the logs; stop everything after the block.

    Raises OpsError if nats-server does not come up.
    """
    count = size.nats_nodes
    with ExitStack() as cleanup:
        ports = _ports(size.gateways + (count if count == 1 else 2 * count))
        own, ports = ports[: size.gateways], ports[size.gateways :]
        servers = nodes(folder, ports, size.max_store_bytes, cleanup)
        cleanup.enter_context(_disk(servers[0].store, size.disk_bytes))
        settings = BusSettings(
            nats=",".join(node.url for node in servers),
            ack_wait_s=size.ack_wait_s,
            replies_max_bytes=size.replies_max_bytes,
            replicas=count,
        )
        gateways = [
            Process(f"gateway-{port}", _argv("gateway", settings, "--port", str(port)), folder / f"gateway-{port}.log")
            for port in own
        ]
        workers = [_worker(f"w{number}", settings, size, folder) for number in range(1, size.workers + 1)]
        stack = Stack(servers, gateways, workers, [f"http://{HOST}:{port}" for port in own], settings)
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
    """`folder` as a file system of its own for the length of the block. Raises OpsError if it cannot be mounted."""
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
    """Free ones that no outgoing connection is given while their server is down: below the kernel's own range."""
    found = (port for port in random.sample(_PORTS, len(_PORTS)) if port_is_free(HOST, port))
    return list(islice(found, count))


def _argv(command: str, settings: BusSettings, *flags: str) -> Callable[[], Sequence[str]]:
    argv = [
        *(*ourselves(), command, "--nats", settings.nats, "--root", settings.root),
        *(
            "--replicas",
            str(settings.replicas),
            "--ack-wait-s",
            f"{settings.ack_wait_s:g}",
            "--replies-max-bytes",
            str(settings.replies_max_bytes),
        ),
        *("--log-format", "json", "--log-level", "info", "--drain-s", "3", *flags),
    ]
    return lambda: argv


def _worker(name: str, settings: BusSettings, size: Size, folder: Path) -> Process:
    """Both limits are beyond what chaos does to one job, whose worker cannot tell a kill of its host from the job's own
    doing: only what is poisonous may be given up."""
    flags = ("--id", name, "--models", ",".join(size.models), "--slots", str(size.slots))
    more = ("--allow-faults", "--stall-s", "5", "--max-attempts", "100", "--max-host-deaths", "4")
    return Process(name, _argv("worker", settings, *flags, *more), folder / f"{name}.log")
