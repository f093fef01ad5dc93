"""The nats-servers of `antiphon up`: one, or a cluster on loopback, each with a folder, a lock and ports of its own.

One server lives in `nats/` itself, the members of a cluster in `nats/n1/`, `nats/n2/` and so on: a store keeps the
number of servers that it was begun with, because its streams are copied to as many.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from ops.errors import OpsError
from ops.local import nats_server, supervisor
from ops.local.nats_server import HOST, Membership, NatsServerError
from ops.local.system import free_ports

#: A majority must outlive the loss of one; two nodes lose theirs with either, four survive no more than three do.
SIZES = (1, 3, 5)


class Node(msgspec.Struct, frozen=True):
    """One nats-server, decided before it is started."""

    #: As the log calls its process.
    name: str
    folder: Path
    port: int
    #: None: it is alone.
    membership: Membership | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def ready(self, pid: int | None) -> nats_server.Endpoints | None:
        """Where its process `pid` listens, if it is there and well. Blocks 0.5 s at most."""
        return nats_server.ready(self.folder, pid) if pid is not None else None


class HeldNode(msgspec.Struct, frozen=True):
    """A node whose store is ours."""

    node: Node
    lock: int
    #: Descriptor of `server.out`.
    out: int

    def launch(self) -> supervisor.Launch:
        """How to start it, now. Raises LaunchError: its port is taken, or the disk is full."""
        node = self.node
        try:
            launch = nats_server.prepare(node.folder, self.lock, port=node.port, membership=node.membership)
        except (NatsServerError, OSError) as error:
            raise supervisor.LaunchError(str(error)) from error
        return supervisor.Launch(argv=launch.argv, output=self.out, pass_fds=(self.lock,), on_orphaned=signal.SIGTERM)


def plan_nodes(state: Path, count: int, port: int) -> tuple[Node, ...]:
    """`count` nodes under `state`, the first at `port` and the others right behind it; 0: any free ones.

    Raises OpsError if `state` holds the store of another number of nodes.
    """
    if (found := _stored(state)) and found != count:
        raise OpsError(
            f"{state} holds the store of {_servers(found)}, which {_servers(count)} cannot take over;"
            f" say --nats-nodes {found} or choose another folder with --state"
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
    """How many servers the store under `state` belongs to; 0 if there is none."""
    return 1 if (state / "js").exists() else len(list(state.glob("n[1-9]/js")))


def _servers(count: int) -> str:
    return "one nats-server" if count == 1 else f"a cluster of {count}"


@contextmanager
def held(nodes: Sequence[Node], patience_s: float) -> Iterator[list[HeldNode]]:
    """Own the stores of `nodes` for the length of the block. Raises OpsError if one is in use or cannot be written."""
    with ExitStack() as cleanup:
        ours = []
        try:
            for node in nodes:
                lock = cleanup.enter_context(nats_server.locked(node.folder, patience_s))
                out = cleanup.enter_context((node.folder / "server.out").open("ab")).fileno()
                nats_server.prepare(node.folder, lock, port=node.port, membership=node.membership)
                ours.append(HeldNode(node, lock, out))
        except NatsServerError as error:
            raise OpsError(str(error)) from error
        except OSError as error:
            where = error.filename or node.folder
            raise OpsError(f"cannot write {where}: {error.strerror}; choose another folder with --state") from error
        yield ours
