"""The worker's slots: one task per delivery, as many as the intake admits, and their drain."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from bus.jobs.delivery import Delivery
from bus.telemetry.logging import logger
from gpuworker.worker.engine_host import EngineHost
from gpuworker.worker.intake import Intake

log = logger(__name__)

#: Limit of the time that handing back itself may take, after drain_s.
_HAND_BACK_S: Final = 10.0


class Slots:
    """Holds running work by task, not by job: after a redelivery two tasks may handle the same job."""

    def __init__(
        self,
        intake: Intake,
        host: EngineHost,
        handle: Callable[[Delivery, int], Coroutine[Any, Any, None]],
        on_capacity: Callable[[], None],
    ) -> None:
        """`handle(delivery, number)` brings a delivery to its outcome. `on_capacity` is called when a slot is free."""
        self._intake = intake
        self._host = host
        self._handle = handle
        self._on_capacity = on_capacity
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, group: asyncio.TaskGroup) -> None:
        """Run tasks in `group` from now on. An exception that leaves `handle` means that the process is unsound."""
        self._group = group

    @property
    def num_used(self) -> int:
        """Deliveries in progress."""
        return len(self._tasks)

    def num_free(self) -> int:
        """Jobs that may be pulled now."""
        return self._intake.free(len(self._tasks)) if self._host.is_up else 0

    def num_vacant(self) -> int:
        """Jobs that could be pulled now if there were no other worker; reported in heartbeats."""
        return self._intake.vacant(len(self._tasks)) if self._host.is_up else 0

    def deliver(self, delivery: Delivery) -> None:
        """Handle `delivery` in a task of its own."""
        number = self._intake.begin()
        task = self.spawn(self._handle(delivery, number), f"job {delivery.seq}")
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._free(task, number))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside the deliveries, without a slot."""
        assert self._group is not None
        return self._group.create_task(work, name=name)

    async def drain(self, drain_s: float, hand_back: Callable[[], None]) -> None:
        """Wait `drain_s` for the tasks, call `hand_back` to interrupt the rest, and cancel any that ignores it."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=drain_s)
        hand_back()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=_HAND_BACK_S)
            for task in late:
                log.error("worker.drain_timeout", task=task.get_name(), waited_s=_HAND_BACK_S)
                task.cancel()

    def _free(self, task: asyncio.Task[None], number: int) -> None:
        self._tasks.discard(task)
        self._intake.over(number)
        self._on_capacity()
