"""The routes in the memory of one gateway, kept in step with their KV bucket."""

from bus.errors import BusError
from bus.jobs.client import Bus
from bus.route_names import RouteNames
from bus.routes.route import Route, read
from bus.telemetry.logging import logger
from bus.transport.bucket import POLL_S, BucketCopy, BucketNames
from bus.transport.direct import Stored

log = logger(__name__)


def route_table(bus: Bus, poll_s: float = POLL_S) -> BucketCopy[Route]:
    """The routes in force, by name, as `entries`. Its `run` keeps them current.

    A gateway that cannot reach the bus goes on with the routes that it has; one that never could has none.
    """
    names = RouteNames(bus.subjects.root)

    def in_force(stored: Stored) -> Route | None:
        route = read(stored, names.prefix)
        return route if route is not None and route.targets else None

    def log_loaded(seq: int) -> None:
        log.info("routes.loaded", known=len(table.entries), seq=seq)

    def log_failed(error: BusError) -> None:
        log.warning("routes.load_failed", error=str(error), known=len(table.entries))

    bucket = BucketNames(names.stream, names.prefix, names.everything, names.changes)
    table = BucketCopy[Route](bus.connection, bus.js, bucket, in_force, poll_s)
    table.on_loaded = log_loaded
    table.on_failed = log_failed
    return table
