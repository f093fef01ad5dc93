"""The faults of `antiphon chaos`. A new fault is one more function here, registered by `@fault`.

The planner draws from `KINDS`, the injector calls `inject`, the report counts by name, and `--kinds` lists the names.

The command line imports this module for every command, so everything heavy is imported for type checking only.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bus.errors import BusError
from ops.chaos.proc import children, command_line

if TYPE_CHECKING:
    from ops.chaos.injector import Scene
    from ops.chaos.nodes import Node

#: A kill of an engine host waits this long for one to appear: a worker that is killed again and again has none.
_HOST_S: Final = 120.0
_BALLAST_BYTES: Final = 64 << 10
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """One planned fault."""

    #: Seconds from the start of the run.
    at_s: float
    kind: str
    #: In [0, 1): chooses among the targets that live at that moment.
    pick: float
    #: Duration in seconds, for a kind that has one.
    for_s: float = 0.0
    #: For a freeze: of the worker's whole process group, not of the worker alone.
    whole: bool = False


Inject = Callable[["Scene", Fault], Awaitable[None]]
#: Shortest and longest duration, in seconds.
Span = tuple[float, float]
#: nodes: NATS is a cluster. disk: one nats-server with a small file system of its own, which takes root to mount.
#: naming: nothing, but the kind takes part only if `--kinds` names it.
Need = Literal["nodes", "disk", "naming"]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One registered kind of fault."""

    name: str
    #: Its share of a schedule, relative to the other kinds in it.
    weight: int
    inject: Inject
    #: Fixed, or computed from the workers' `ack_wait_s`.
    for_s: Span | Callable[[float], Span]
    #: What the stack must have. `nodes` faults take part by default where they can, `disk` faults only by name.
    needs: Need | None

    def span_s(self, ack_wait_s: float) -> Span:
        """Shortest and longest duration, in seconds; both 0 for a kind that has no duration."""
        return self.for_s(ack_wait_s) if callable(self.for_s) else self.for_s


#: Every kind by name, in the request of registration: equal seeds make equal schedules only while this request stays.
KINDS: Final[dict[str, FaultKind]] = {}


def fault(
    *, weight: int, for_s: Span | Callable[[float], Span] = (0.0, 0.0), needs: Need | None = None
) -> Callable[[Inject], Inject]:
    """Register a function as the kind of fault that bears its name. Raises ValueError if the name is taken."""

    def register(inject: Inject) -> Inject:
        name = getattr(inject, "__name__", "")
        if name in KINDS:
            raise ValueError(f"two faults are called {name!r}")
        KINDS[name] = FaultKind(name, weight, inject, for_s, needs)
        return inject

    return register


def default_kinds(*, clustered: bool = False) -> tuple[str, ...]:
    """Names of the kinds of a run that names none: those that need nothing and, on a cluster, those that need one."""
    met = {None, "nodes"} if clustered else {None}
    return tuple(name for name, kind in KINDS.items() if kind.needs in met)


@fault(weight=700)
async def worker_kill(scene: "Scene", fault: Fault) -> None:
    """SIGKILL a worker, and record how many slots the other workers had free for its jobs."""
    worker = await scene.worker(fault)
    others = [other for other in scene.stack.workers if other is not worker]
    free_slots = scene.monitor.free_slots(others)
    scene.record(fault, worker.name, free_slots=free_slots, held=scene.monitor.held_by(worker))
    worker.kill()


@fault(weight=150)
async def host_kill(scene: "Scene", fault: Fault) -> None:
    """SIGKILL the engine host of a worker."""
    deadline = time.monotonic() + _HOST_S
    while time.monotonic() < deadline:
        worker = await scene.worker(fault)
        for pid in children(worker.pid or 0):
            if "gpuworker.host.main" in command_line(pid):
                scene.record(fault, worker.name)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return
        await asyncio.sleep(_POLL_S)
    scene.not_injected.append(f"{fault.kind}: no worker had an engine host for {_HOST_S:g} s")


@fault(weight=50, for_s=lambda ack_wait_s: (1.05 * ack_wait_s, 2 * ack_wait_s))
async def worker_freeze(scene: "Scene", fault: Fault) -> None:
    """Stop a worker for longer than its deliveries may stay unacknowledged: another worker gets its jobs."""
    await _freeze(scene, fault)


@fault(weight=40)
async def gateway_kill(scene: "Scene", fault: Fault) -> None:
    """SIGKILL a gateway; its clients reconnect to another one."""
    gateway = await scene.gateway(fault)
    scene.record(fault, gateway.name)
    gateway.kill()


@fault(weight=20)
async def nats_restart(scene: "Scene", fault: Fault) -> None:
    """SIGKILL a nats-server, which starts again at once."""
    await _take_down(scene, fault, _any_node(scene, fault))


@fault(weight=10, for_s=(0.5, 5.0))
async def nats_outage(scene: "Scene", fault: Fault) -> None:
    """SIGKILL a nats-server, which stays down for a while."""
    await _take_down(scene, fault, _any_node(scene, fault))


@fault(weight=6, for_s=lambda ack_wait_s: (0.05, 0.95 * ack_wait_s))
async def worker_hiccup(scene: "Scene", fault: Fault) -> None:
    """Stop a worker for less than its deliveries may stay unacknowledged."""
    await _freeze(scene, fault)


@fault(weight=6)
async def hang_up(scene: "Scene", fault: Fault) -> None:
    """A client disconnects in the middle of its audio."""
    await _misbehave(scene, fault)


@fault(weight=5)
async def slow(scene: "Scene", fault: Fault) -> None:
    """A client reads slowly."""
    await _misbehave(scene, fault)


@fault(weight=5)
async def poison(scene: "Scene", fault: Fault) -> None:
    """A request that makes the engine raise, exit, hang or return NaN."""
    await _misbehave(scene, fault)


@fault(weight=4)
async def wrong(scene: "Scene", fault: Fault) -> None:
    """A request that must be refused."""
    await _misbehave(scene, fault)


@fault(weight=4)
async def clock(scene: "Scene", fault: Fault) -> None:
    """A request whose deadline has passed or passes soon."""
    await _misbehave(scene, fault)


@fault(weight=40, for_s=(10.0, 30.0), needs="naming")
async def flood(scene: "Scene", fault: Fault) -> None:
    """Another tenant floods a pool that tenants share: the queue, the store, encoders, connections, …."""
    scene.record(fault, "tenant", fault.for_s)
    await scene.flood(fault.pick, fault.for_s)


@fault(weight=20, for_s=(0.5, 3.0), needs="nodes")
async def leader_kill(scene: "Scene", fault: Fault) -> None:
    """SIGKILL the server that leads the logs or the queue; any server while there is an election."""
    subjects = scene.bus.subjects
    stream = subjects.replies_stream if fault.pick < 0.5 else subjects.jobs_stream
    try:
        leader = (await scene.bus.js.info(stream))["cluster"].get("leader", "")
    except BusError:
        leader = ""
    nodes = scene.stack.nodes
    await _take_down(scene, fault, next((node for node in nodes if node.member == leader), nodes[0]))


@fault(weight=20, for_s=(2.0, 6.0), needs="disk")
async def disk(scene: "Scene", fault: Fault) -> None:
    """Fill the store's disk for a while; then free the space and restart nats-server, as `antiphon up` does."""
    node = scene.stack.nodes[0]
    ballast = node.store / "ballast"
    scene.record(fault, node.process.name, fault.for_s)
    try:
        await asyncio.to_thread(_fill, ballast)
        await asyncio.sleep(fault.for_s)
    finally:
        ballast.unlink(missing_ok=True)
        node.process.kill()


async def _freeze(scene: "Scene", fault: Fault) -> None:
    worker = await scene.worker(fault)
    scene.record(fault, worker.name, fault.for_s)
    thaw = worker.freeze(whole=fault.whole)
    try:
        await asyncio.sleep(fault.for_s)
    finally:
        thaw()


def _any_node(scene: "Scene", fault: Fault) -> "Node":
    nodes = scene.stack.nodes
    return nodes[int(fault.pick * len(nodes))]


async def _take_down(scene: "Scene", fault: Fault, node: "Node") -> None:
    nats = node.process
    scene.record(fault, nats.name, fault.for_s)
    if fault.for_s:
        nats.permitted.clear()
    nats.kill()
    await asyncio.sleep(fault.for_s)
    nats.permitted.set()


async def _misbehave(scene: "Scene", fault: Fault) -> None:
    """Send one request from a client that behaves as the fault's name says."""
    scene.record(fault, "client")
    await scene.as_client(fault.kind)


def _fill(path: Path) -> None:
    """Write until the file system is full."""
    with suppress(OSError), path.open("wb", buffering=0) as out:
        while out.write(bytes(_BALLAST_BYTES)):
            continue
