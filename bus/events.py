"""Every event that our processes log: its name, what it means, which fields it carries. `docs/telemetry.md` prints it.

To log something new, add a line here and run `make docs`. A test refuses a name or a field that is not in the table.
All events also carry `timestamp`, `level`, `process`, `module` and what is bound around them (`job`, `tenant`, …).
"""

from typing import NamedTuple


class Event(NamedTuple):
    meaning: str
    fields: tuple[str, ...] = ()


#: Fields that any event may carry.
COMMON = frozenset({"job", "tenant", "worker", "trace_id", "exc_info"})

EVENTS: dict[str, Event] = {
    # every process
    "library.logged": Event("A library wrote a line through Python's own logging.", ("message",)),
    "process.crashed": Event("An exception that nobody caught; the process ends.", ("exception",)),
    "process.stopping": Event("A signal asked the process to stop; a second one ends it at once.", ("signal",)),
    "process.started": Event("The process has read its settings and begins its work.", ("pid", "settings")),
    "process.stopped": Event("The process has finished everything and ends."),
    # the bus
    "bus.callback_failed": Event(
        "A callback raised on a message: a bug of ours, the connection goes on.", ("subject",)
    ),
    "nats.disconnected": Event("The connection to NATS broke; it is being made again."),
    "nats.error": Event("NATS or its library reported an error.", ("error",)),
    "nats.reconnected": Event("The connection to NATS is back.", ("generation",)),
    # antiphon up
    "child.started": Event("`up` has started a process.", ("child", "pid")),
    "child.exited": Event(
        "A process of `up` ended although nobody asked it to.", ("child", "pid", "code", "error", "again_in_s")
    ),
    "child.stopped": Event("A process of `up` ended after it was asked to.", ("child", "pid", "code")),
    "child.killed": Event(
        "A process of `up` did not end within its bound and was killed.", ("child", "pid", "after_s")
    ),
    "stack.ready": Event("A request to the one-machine stack would succeed.", ("http", "nats", "after_s")),
    "stack.waiting": Event("The stack is not ready yet, and what it waits for.", ("waiting_for", "after_s")),
    "stack.stopping": Event("`up` begins to stop its processes, workers first."),
}
