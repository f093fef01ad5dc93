"""One process's access to the bus: the connection and the services on top of it, opened and closed together."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bus.jobs.log import Logs
from bus.settings import BusSettings
from bus.subjects import Subjects
from bus.transport.clock import BusClock
from bus.transport.connection import Connection
from bus.transport.jetstream import JetStream
from bus.transport.topology import Topology


@dataclass(frozen=True, slots=True)
class Bus:
    """Everything that a process needs to use the bus."""

    settings: BusSettings
    connection: Connection
    js: JetStream
    subjects: Subjects
    logs: Logs
    topology: Topology
    clock: BusClock


@contextlib.asynccontextmanager
async def open_bus(
    settings: BusSettings, role: str, patience_s: float = 30.0, *, declare: bool = True
) -> AsyncIterator[Bus]:
    """Connect as `role`, declare the streams, read the server's clock. Leaving the block closes the connection.

    `declare=False` is for commands: declaring would set the limits of a running deployment to those in `settings`.

    Raises:
        Unreachable: no NATS with JetStream within `patience_s`.
        TopologyMismatch: the streams of this root belong to something else.
        ApiError: with `declare=False`, there are no streams of this root.
    """
    async with await Connection.connect(settings, role, patience_s) as connection:
        subjects = Subjects(settings.root)
        js = JetStream(connection, settings)
        topology = Topology(js, subjects, settings)
        if declare:
            # Patient: no client waits for a process that starts, and a cluster may have no leader yet.
            await topology.declare_streams(patience_s)
        clock = BusClock()
        await clock.sync(js, subjects.jobs_stream)
        yield Bus(settings, connection, js, subjects, Logs(connection, js, subjects), topology, clock)
