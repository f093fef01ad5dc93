"""Room in JOBS for the messages of jobs that wait or run, shared among tenants.

While the queue is short, nothing is counted but the bytes that this gateway adds. Then each tenant's part is read from
JetStream (`gateway.limits.queue_bytes`), so nothing is exchanged, and nothing is left of a gateway that is killed.
"""

import asyncio
import time
from collections import Counter
from typing import Any, Final

from bus import wire
from bus.errors import BusError, JobError
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from gateway.limits.queue_bytes import QueueBytes
from gateway.limits.refusals import no_room, too_much_stored

log = logger(__name__)

QUEUED: Final = "queued_bytes"
#: Longer inputs are weighed one by one.
SMALL_INPUT_CHARS: Final = 4096
#: About what a message has beside its input: the other fields, the subject, the stream's own record.
MESSAGE_BYTES: Final = 400
#: Share of JOBS that live jobs may fill: above it new ones are refused in any case.
_CAPACITY: Final = 0.85
#: Share of JOBS below which tenants are not compared.
_TIGHT_ABOVE: Final = 0.4
#: Seconds between two readings of JOBS, and the least while tenants are compared.
_LOOK_S: Final = 5.0
_LOOK_TIGHT_S: Final = 0.2


class QueueRoom:
    """One gateway's view of JOBS."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        max_bytes = bus.settings.jobs_max_bytes
        self._tight_bytes = int(_TIGHT_ABOVE * max_bytes)
        self._shares = QueueBytes(int(_CAPACITY * max_bytes))
        #: Bytes that this gateway may add before tenants are compared; negative while they are. A caller of `submit`
        #: that need not call `refusal` subtracts the size of its message.
        self.allowance_bytes = self._tight_bytes
        self._looked_s = float("-inf")
        self._looking = asyncio.Lock()

    async def refusal(self, tenant: str, job: wire.Job) -> JobError | None:
        """Count the message of a job that is about to be queued and return None, or return why it must wait.

        Raises Unreachable, ApiError.
        """
        num_bytes = len(wire.encode(job)) + MESSAGE_BYTES
        self._shares.observe(tenant, num_bytes)
        self.allowance_bytes -= num_bytes
        if self.allowance_bytes >= 0:
            return None
        if time.monotonic() - self._looked_s > _LOOK_TIGHT_S:
            await self.look()
        if self._shares.refusal(tenant, num_bytes) is not None:
            await self.look()  # jobs may have ended since
        refusal = self._shares.take(tenant, num_bytes)
        if refusal is None:
            return None
        self.allowance_bytes += num_bytes
        stream, capacity = self._bus.subjects.jobs_stream, self._shares.capacity_bytes
        if refusal.is_own:
            return too_much_stored(tenant, refusal, QUEUED, stream, capacity)
        return no_room(refusal, stream, self._shares.total_bytes, capacity)

    async def look(self) -> None:
        """Read how much of JOBS is used, and by whom if that matters. Raises Unreachable, ApiError."""
        arrived_s = time.monotonic()
        async with self._looking:
            if self._looked_s > arrived_s:
                return
            started_s = time.monotonic()
            state = await self._state(None)
            if int(state["bytes"]) > self._tight_bytes:
                # Costs a millisecond for each thousand subjects, however many messages there are.
                state = await self._state({"subjects_filter": self._bus.subjects.all_jobs})
            counts: Counter[str] = Counter()
            for subject, count in (state.get("subjects") or {}).items():
                counts[subject.rpartition(".")[2]] += count
            self._shares.update(int(state["bytes"]), counts)
            self.allowance_bytes = self._tight_bytes - int(state["bytes"])
            self._looked_s = started_s

    async def _state(self, body: object) -> dict[str, Any]:
        info = await self._bus.js.api(f"STREAM.INFO.{self._bus.subjects.jobs_stream}", body)
        state: dict[str, Any] = info["state"]
        return state

    async def run(self) -> None:
        """Look again and again until cancelled. A look that fails is logged."""
        while True:
            try:
                await self.look()
            except BusError as error:
                log.warning("limit.refresh_failed", error=str(error))  # the next look tries again
            await asyncio.sleep(_LOOK_S)
