"""The faults, one function per kind, and the one who deals them out by the schedule."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus import wire
from bus.errors import BusError
from bus.fleet.presence import beat_of
from bus.jobs.client import Bus
from ops.chaos.nodes import Node
from ops.chaos.plan import CLIENT_KINDS, Fault
from ops.chaos.proc import children, command_line
from ops.chaos.process import Process
from ops.chaos.stack import Stack

#: A fault waits so long for something to befall.
_TARGET_S: Final = 15.0
#: … and the kill of an engine host for one that lives: whoever is killed again and again has none for a while.
_HOST_S: Final = 120.0
#: A worker whose heartbeat is older than this is not counted as able to take over.
_FRESH_S: Final = 1.5
_BALLAST_BYTES: Final = 64 << 10


@dataclass(slots=True)
class Blow:
    """A fault as it was dealt. Times are monotonic seconds."""

    kind: str
    target: str
    at: float
    #: When what was stopped could go on; for a kill the moment itself.
    until: float
    #: Of a worker's kill: slots free on other ready workers at that moment, and jobs that look for one.
    free_slots: int = 0
    held: int = 0


class Watch:
    """What the fleet says of itself, heard on the bus."""

    def __init__(self, bus: Bus) -> None:
        self.beats: dict[str, tuple[wire.Heartbeat, float]] = {}
        bus.connection.subscribe(bus.subjects.all_heartbeats, self._heard)

    def _heard(self, message: object) -> None:
        beat = beat_of(message)  # type: ignore[arg-type]
        if beat is not None:
            self.beats[beat.id] = (beat, time.monotonic())

    def is_warm(self, process: Process) -> bool:
        """Whether this very process serves."""
        beat, at = self.beats.get(process.name, (None, 0.0))
        fresh = time.monotonic() - at < _FRESH_S
        if beat is None or beat.loading or process.frozen or not fresh:
            return False
        return (beat.pid, beat.state) == (process.pid, "ready")

    def free_slots(self, workers: Sequence[Process]) -> int:
        beats = [self.beats[worker.name][0] for worker in workers if self.is_warm(worker)]
        return sum(max(0, beat.slots - len(beat.held)) for beat in beats if beat.breaker == "closed")

    def held_by(self, worker: Process) -> int:
        return len(self.beats[worker.name][0].held) if worker.name in self.beats else 0

    def held(self) -> int:
        return sum(len(beat.held) for beat, at in self.beats.values() if time.monotonic() - at < _FRESH_S)


class Injector:
    """Deals the schedule out. `as_client` performs the faults that are a client's behaviour."""

    def __init__(self, stack: Stack, bus: Bus, watch: Watch, as_client: Callable[[str], Awaitable[object]]) -> None:
        self._stack, self._bus, self._watch, self._as_client = stack, bus, watch, as_client
        self.blows: list[Blow] = []
        #: Faults that found nobody to befall, in words.
        self.undealt: list[str] = []
        self._does = {
            "worker_kill": self._worker_kill,
            "host_kill": self._host_kill,
            "worker_freeze": self._worker_freeze,
            "worker_hiccup": self._worker_freeze,
            "gateway_kill": self._gateway_kill,
            "nats_restart": self._nats_kill,
            "nats_outage": self._nats_kill,
            "leader_kill": self._leader_kill,
            "disk": self._disk_full,
        }

    async def run(self, faults: Sequence[Fault], progress: Callable[[int], None]) -> None:
        """Return when the last one has been dealt and is over."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, fault in enumerate(faults):
                await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
                progress(number)
                if fault.kind in CLIENT_KINDS:
                    now = time.monotonic()
                    self.blows.append(Blow(fault.kind, "client", now, now))
                    group.create_task(self._client(fault.kind))
                else:
                    group.create_task(self._does[fault.kind](fault))

    async def _client(self, manner: str) -> None:
        await self._as_client(manner)

    def _dealt(self, fault: Fault, target: str, for_s: float = 0.0, *, free_slots: int = 0, held: int = 0) -> None:
        now = time.monotonic()
        self.blows.append(Blow(fault.kind, target, now, now + for_s, free_slots, held))

    async def _worker_kill(self, fault: Fault) -> None:
        worker = await self._target(fault, self._stack.workers)
        others = [other for other in self._stack.workers if other is not worker]
        free_slots, held = self._watch.free_slots(others), self._watch.held_by(worker)
        self._dealt(fault, worker.name, free_slots=free_slots, held=held)
        worker.kill()

    async def _host_kill(self, fault: Fault) -> None:
        deadline = time.monotonic() + _HOST_S
        while time.monotonic() < deadline:
            worker = await self._target(fault, self._stack.workers)
            for pid in children(worker.pid or 0):
                if "gpuworker.host.main" in command_line(pid):
                    self._dealt(fault, worker.name)
                    _kill(pid)
                    return
            await asyncio.sleep(0.05)
        self.undealt.append(f"{fault.kind}: no worker had an engine host for {_HOST_S:g} s")

    async def _worker_freeze(self, fault: Fault) -> None:
        worker = await self._target(fault, self._stack.workers)
        self._dealt(fault, worker.name, fault.for_s)
        thaw = worker.freeze(whole=fault.whole)
        try:
            await asyncio.sleep(fault.for_s)
        finally:
            thaw()

    async def _gateway_kill(self, fault: Fault) -> None:
        gateway = await self._target(fault, self._stack.gateways)
        self._dealt(fault, gateway.name)
        gateway.kill()

    async def _nats_kill(self, fault: Fault) -> None:
        nodes = self._stack.nodes
        await self._strike(fault, nodes[int(fault.pick * len(nodes))])

    async def _leader_kill(self, fault: Fault) -> None:
        """The server that leads the logs or the queue at this moment; any, while there is an election."""
        subjects = self._bus.subjects
        stream = subjects.replies_stream if fault.pick < 0.5 else subjects.jobs_stream
        try:
            leader = (await self._bus.js.info(stream))["cluster"].get("leader", "")
        except BusError:
            leader = ""
        nodes = self._stack.nodes
        await self._strike(fault, next((node for node in nodes if node.member == leader), nodes[0]))

    async def _strike(self, fault: Fault, node: Node) -> None:
        nats = node.process
        self._dealt(fault, nats.name, fault.for_s)
        if fault.for_s:
            nats.permitted.clear()
        nats.kill()
        await asyncio.sleep(fault.for_s)
        nats.permitted.set()

    async def _disk_full(self, fault: Fault) -> None:
        """Leave the store no byte for a while; then give the space back and start nats-server anew, as `up` does."""
        node = self._stack.nodes[0]
        nats, ballast = node.process, node.store / "ballast"
        self._dealt(fault, nats.name, fault.for_s)
        try:
            await asyncio.to_thread(_fill, ballast)
            await asyncio.sleep(fault.for_s)
        finally:
            ballast.unlink(missing_ok=True)
            nats.kill()

    async def _target(self, fault: Fault, among: Sequence[Process]) -> Process:
        """One that lives, a warm one rather than one that is just starting; waits until there is one."""
        deadline = time.monotonic() + _TARGET_S
        while True:
            alive = [process for process in among if process.pid is not None]
            warm = [process for process in alive if self._watch.is_warm(process)]
            if warm or (alive and (among is self._stack.gateways or time.monotonic() > deadline)):
                found = warm or alive
                return found[int(fault.pick * len(found))]
            await asyncio.sleep(0.05)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _fill(path: Path) -> None:
    """Write until the file system takes no more."""
    with suppress(OSError), path.open("wb", buffering=0) as out:
        while out.write(bytes(_BALLAST_BYTES)):
            continue
