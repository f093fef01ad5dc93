"""Ended jobs whose audio is still to be charged."""

import asyncio
from collections.abc import Callable
from typing import Final

from bus.errors import BusError, JobError, Malformed
from bus.subjects import Subjects
from bus.telemetry.logging import logger
from gateway.limits.audio_charges import AudioCharges, NotEnded
from gateway.limits.counted_jobs import JobName

log = logger(__name__)

#: How long `close` may take.
_CLOSE_S: Final = 2.0
#: Errors of a job's own log: trying again cannot help.
_PERMANENT: Final = (Malformed, JobError)


class PendingCharges:
    """Charges jobs one after the other. Transient failures are tried again, permanent ones are logged and dropped."""

    def __init__(self, audio: AudioCharges, subjects: Subjects, on_charged: Callable[[], None]) -> None:
        """`on_charged` is called after each job that was charged."""
        self._audio = audio
        self._subjects = subjects
        self._on_charged = on_charged
        #: Accounts of the jobs that are not charged yet, by job; changed by the methods of this class only.
        self.uncharged: dict[JobName, str] = {}
        self._charging = asyncio.Lock()

    def __len__(self) -> int:
        """Jobs that are not charged yet."""
        return len(self.uncharged)

    def add(self, name: JobName, account: str) -> None:
        """Remember to charge an ended job; `charge` does it."""
        self.uncharged[name] = account

    async def charge(self) -> None:
        """Charge every job that is not charged yet; stops at the first failure of the bus. Cancelling loses none."""
        async with self._charging:
            for name, account in list(self.uncharged.items()):
                tenant, job = name
                try:
                    ms, total_ms = await self._audio.charge(account, self._subjects.job_key(tenant, job))
                except BusError as error:
                    log.warning("limit.charge_failed", job=job, tenant=tenant, jobs=len(self), error=str(error))
                    if isinstance(error, _PERMANENT):
                        del self.uncharged[name]
                    elif not isinstance(error, NotEnded):
                        return  # the bus is unreachable, for the other jobs too
                    continue
                self.uncharged.pop(name, None)
                self._on_charged()
                log.debug("limit.charged", job=job, tenant=tenant, account=account, ms=ms, total_ms=total_ms)

    async def close(self) -> None:
        """Charge the rest, for 2 s at most; logs the number of jobs that are then still uncharged."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.charge()
        except TimeoutError:
            log.warning("limit.charge_failed", jobs=len(self), error=f"not within {_CLOSE_S:g} s of stopping")
