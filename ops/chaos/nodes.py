"""The nats-servers under test: one, or a cluster whose streams have a copy on each."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from ops.chaos.process import Process
from ops.errors import OpsError
from ops.local import nats_server
from ops.local.nats_server import HOST, Membership

#: Name of a single nats-server among the processes; the names of a cluster's servers begin with it.
NATS: Final = "nats"
#: A nats-server that is not healthy after this long fails the run.
_READY_S: Final = 60.0
_LOOK_S: Final = 0.02


class Node(msgspec.Struct, frozen=True, eq=False):
    """One nats-server of the stack."""

    process: Process
    #: Its configuration, its log and its store.
    folder: Path
    port: int
    #: Its name in the cluster; "" if it is alone.
    member: str = ""

    @property
    def url(self) -> str:
        """Its URL for clients of NATS."""
        return f"nats://{HOST}:{self.port}"

    @property
    def endpoints(self) -> nats_server.Endpoints | None:
        """Its addresses; None while it is down or not healthy."""
        pid = self.process.pid
        return nats_server.ready(self.folder, pid) if pid is not None else None

    @property
    def monitoring(self) -> str:
        """URL of its HTTP monitoring. Raises OpsError while it is down."""
        found = self.endpoints
        if found is None:
            raise OpsError(f"{self.process.name} is down")
        return found.monitoring

    @property
    def store(self) -> Path:
        """Folder of JetStream's store."""
        return self.folder / "js"

    async def healthy(self) -> None:
        """Wait until it is healthy. Raises OpsError, with the end of its log, after a minute."""
        deadline = time.monotonic() + _READY_S
        while self.endpoints is None:
            if time.monotonic() > deadline:
                raise OpsError(f"{self.process.name} is not healthy:\n{nats_server.log_tail(self.folder)}")
            await asyncio.sleep(_LOOK_S)


def nodes(folder: Path, ports: Sequence[int], max_store_bytes: int, cleanup: ExitStack) -> list[Node]:
    """Servers under `folder`, not started yet; their stores stay locked until `cleanup`.

    `ports` is one port for a single server; for a cluster of n it is n ports for clients, then n for routes.
    """
    if len(ports) == 1:
        return [_node(NATS, folder / "nats", ports[0], max_store_bytes, None, folder, cleanup)]
    half = len(ports) // 2
    routes = tuple(ports[half:])
    members = [Membership(f"n{number}", route, routes) for number, route in enumerate(routes, 1)]
    return [
        _node(f"{NATS}-{each.name}", folder / "nats" / each.name, port, max_store_bytes, each, folder, cleanup)
        for port, each in zip(ports[:half], members, strict=True)
    ]


def _node(
    name: str,
    state: Path,
    port: int,
    max_store_bytes: int,
    membership: Membership | None,
    logs: Path,
    cleanup: ExitStack,
) -> Node:
    lock = cleanup.enter_context(nats_server.locked(state))

    def argv() -> Sequence[str]:
        return nats_server.prepare(state, lock, port=port, max_store_bytes=max_store_bytes, membership=membership).argv

    launch: Callable[[], Sequence[str]] = argv
    process = Process(name, launch, logs / f"{name}.out", (lock,))
    return Node(process, state, port, membership.name if membership else "")
