"""The nats-servers of `antiphon up`: one, or a cluster on loopback, each with a folder, a lock and ports of its own.

A single server has the folder `nats/` itself, the members of a cluster have `nats/n1/`, `nats/n2/` and so on. A store
keeps the number of servers that it was made with, because each of its streams has that many copies.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from ops.errors import OpsError
from ops.local import nats_server, supervisor
from ops.local.nats_server import HOST, Membership, NatsServerError
from ops.local.store import check_recovered
from ops.local.system import free_ports

#: A majority must survive the loss of one. Two nodes lose it with either one; four survive no more losses than three.
SIZES = (1, 3, 5)


class Node(msgspec.Struct, frozen=True):
    """One nats-server, planned before it is started."""

    #: Name of its process in the log.
    name: str
    folder: Path
    port: int
    #: None for a single server.
    membership: Membership | None = None

    @property
    def url(self) -> str:
        """Its URL for clients of NATS."""
        return f"nats://{HOST}:{self.port}"

    def ready(self, pid: int | None) -> nats_server.Endpoints | None:
        """URLs of its process `pid`, None if it is not healthy. Blocks 0.5 s at most."""
        return nats_server.ready(self.folder, pid) if pid is not None else None

    def check_recovered(self, pid: int | None) -> None:
        """Raises StoreDamaged if its process `pid` has started without one of its streams. Blocks 0.5 s at most."""
        if pid is not None:
            check_recovered(self.folder, nats_server.health_error(self.folder, pid))


class LockedNode(msgspec.Struct, frozen=True):
    """A node whose store this process has locked."""

    node: Node
    #: Descriptor of the lock.
    lock: int
    #: Descriptor of `server.out`.
    out: int

    def launch(self) -> supervisor.Launch:
        """How to start it now. Raises LaunchError if its port is taken or the disk is full."""
        node = self.node
        try:
            launch = nats_server.prepare(node.folder, self.lock, port=node.port, membership=node.membership)
        except (NatsServerError, OSError) as error:
            raise supervisor.LaunchError(str(error)) from error
        return supervisor.Launch(argv=launch.argv, output=self.out, pass_fds=(self.lock,), on_orphaned=signal.SIGTERM)


def plan_nodes(state: Path, count: int, port: int) -> tuple[Node, ...]:
    """`count` nodes under `state`, on `port` and the ports after it; 0: on any free ones.

    Raises OpsError if `state` holds the store of another number of nodes.
    """
    if (found := _stored(state)) and found != count:
        raise OpsError(
            f"{state} holds the store of {_servers(found)}, which {_servers(count)} cannot take over;"
            f" use --nats-nodes {found} or choose another folder with --state"
        )
    ports = [port + number for number in range(count)] if port else free_ports(HOST, count)
    if count == 1:
        return (Node("nats", state, ports[0]),)
    routes = tuple(free_ports(HOST, count))
    return tuple(
        Node(f"nats {name}", state / name, port, Membership(name, routes[number], routes))
        for number, (name, port) in enumerate((f"n{number}", port) for number, port in enumerate(ports, 1))
    )


def _stored(state: Path) -> int:
    """Number of servers of the store under `state`; 0 if there is none."""
    return 1 if (state / "js").exists() else len(list(state.glob("n[1-9]/js")))


def _servers(count: int) -> str:
    return "one nats-server" if count == 1 else f"a cluster of {count}"


@contextmanager
def locked(nodes: Sequence[Node], patience_s: float) -> Iterator[list[LockedNode]]:
    """Lock the stores of `nodes` for the length of the block. Raises OpsError if one is in use or cannot be written."""
    with ExitStack() as cleanup:
        locked_nodes = []
        try:
            for node in nodes:
                lock = cleanup.enter_context(nats_server.locked(node.folder, patience_s))
                out = cleanup.enter_context((node.folder / "server.out").open("ab")).fileno()
                nats_server.prepare(node.folder, lock, port=node.port, membership=node.membership)
                locked_nodes.append(LockedNode(node, lock, out))
        except NatsServerError as error:
            raise OpsError(str(error)) from error
        except OSError as error:
            where = error.filename or node.folder
            raise OpsError(f"cannot write {where}: {error.strerror}; choose another folder with --state") from error
        yield locked_nodes
