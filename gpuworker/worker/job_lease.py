"""The lease of a job that runs here: kept alive while the engine works, and given up in one of three ways."""

from bus import wire
from bus.errors import BusError, Fenced, Unreachable
from bus.jobs.claim import Claim, Claims
from bus.jobs.client import Bus
from bus.jobs.log import Writer
from bus.telemetry.logging import logger
from bus.transport.pull import ack, give_back, keep_alive
from gpuworker.crash import MAX_TRACE_BYTES

log = logger(__name__)


class JobLease:
    """Settles a job: `finish`, `end` or `release` it, once. Each returns the outcome's name for the log line."""

    def __init__(self, bus: Bus, claims: Claims, claim: Claim, writer: Writer) -> None:
        self._bus = bus
        self._claims = claims
        self._claim = claim
        self._writer = writer
        self._ack_subject = claim.lease.ack

    @property
    def seq(self) -> int:
        """Stream sequence of the lease: the fence of every append."""
        return self._writer.lease_seq

    def keep_alive(self) -> None:
        """Restart the ack_wait countdown of the job's message."""
        keep_alive(self._bus.connection, self._ack_subject)

    def redelivered(self, ack_subject: str) -> None:
        """The job's message was delivered to this worker again: acknowledge that delivery from now on (rule 10)."""
        self._ack_subject = ack_subject

    async def finish(self, kind: wire.End, payload: object) -> str:
        """Append the terminal entry and acknowledge the message. Raises Fenced, Full, Unreachable."""
        await self._writer.end(kind, payload)
        ack(self._bus.connection, self._ack_subject)
        return kind

    async def end(self, kind: wire.End, why: str) -> str:
        """End the log as any process may: its deadline passed, or its last listener left."""
        try:
            return await self._bus.logs.end(self._claim.key, kind, why)
        except BusError as error:
            log.error("job.end_failed", error=str(error))
            return "bus_unreachable"

    async def release(
        self, state: wire.LeaseState, detail: str, *, host_died: bool = False, traceback: str = ""
    ) -> str:
        """Give up the lease, then NAK the message (rule 11). The engine is stopped, the last append acknowledged.

        A job that may not be tried again is not offered again: it ends here, among the dead letters.
        """
        try:
            lease = await self._writer.release(
                state, detail, host_died=host_died, traceback=traceback[:MAX_TRACE_BYTES]
            )
            is_free = state == wire.LeaseState.HANDED_BACK
            reason = None if is_free else self._claims.limits.exhausted(lease, lease.attempt + 1)
            if reason is not None:
                await self._claims.dead_letters.give_up_job(self._claim.key, self._claim.birth, lease, reason)
                ack(self._bus.connection, self._ack_subject)
                return "failed"
        except (Fenced, Unreachable):
            return "fenced"
        except BusError as error:
            log.error("job.end_failed", error=str(error))
        give_back(self._bus.connection, self._ack_subject)
        return state
