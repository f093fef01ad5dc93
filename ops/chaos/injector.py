"""Injects the planned faults into a running stack, each at its time, and records what was injected."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bus.jobs.client import Bus
from ops.chaos.faults import KINDS, Fault
from ops.chaos.fleet_monitor import FleetMonitor
from ops.chaos.process import Process
from ops.chaos.stack import Stack

#: A fault waits this long for a warm worker; then a worker that is still starting will do.
_TARGET_S: Final = 15.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault as it was injected. Times are monotonic seconds."""

    kind: str
    target: str
    at: float
    #: When its target could run again; the moment of a kill itself.
    until: float
    #: For `worker_kill`: slots free on the other ready workers at that moment, and jobs that need one.
    free_slots: int = 0
    held: int = 0


@dataclass(slots=True)
class Scene:
    """The stack as faults act on it, and the record of what they did."""

    stack: Stack
    bus: Bus
    monitor: FleetMonitor
    #: Sends one request from a client of the given behaviour, and returns when that client is done.
    as_client: Callable[[str], Awaitable[object]]
    #: Lets a tenant flood the pool that a number in [0, 1) chooses, for some seconds.
    flood: Callable[[float, float], Awaitable[None]]
    injections: list[Injection] = field(default_factory=list)
    #: One line for each fault that found no target.
    not_injected: list[str] = field(default_factory=list)

    def record(self, fault: Fault, target: str, for_s: float = 0.0, *, free_slots: int = 0, held: int = 0) -> None:
        """Note that `fault` strikes `target` now, for `for_s` seconds."""
        now = time.monotonic()
        self.injections.append(Injection(fault.kind, target, now, now + for_s, free_slots, held))

    async def worker(self, fault: Fault) -> Process:
        """A live worker that takes jobs; after `_TARGET_S` seconds one that still starts. Waits until one lives."""
        deadline = time.monotonic() + _TARGET_S
        while True:
            alive = _alive(self.stack.workers)
            warm = [worker for worker in alive if self.monitor.is_warm(worker)]
            if warm or (alive and time.monotonic() > deadline):
                return _pick(fault, warm or alive)
            await asyncio.sleep(_POLL_S)

    async def gateway(self, fault: Fault) -> Process:
        """A live gateway. Waits until there is one."""
        while True:
            if alive := _alive(self.stack.gateways):
                return _pick(fault, alive)
            await asyncio.sleep(_POLL_S)


async def inject(scene: Scene, faults: Sequence[Fault], progress: Callable[[int], None]) -> None:
    """Inject `faults`, in ascending `at_s`, and return when the last one is over. `progress` gets each one's index."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for index, fault in enumerate(faults):
            await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            progress(index)
            group.create_task(_inject(scene, fault))


async def _inject(scene: Scene, fault: Fault) -> None:
    await KINDS[fault.kind].inject(scene, fault)


def _alive(processes: Sequence[Process]) -> list[Process]:
    return [process for process in processes if process.pid is not None]


def _pick(fault: Fault, among: Sequence[Process]) -> Process:
    return among[int(fault.pick * len(among))]
