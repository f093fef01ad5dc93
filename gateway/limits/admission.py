"""Whether a job may be accepted: the limits of its key, and its tenant's share of the streams."""

from typing import NamedTuple

from bus.blobs.held_inputs import HeldInputs
from bus.blobs.store import BlobStore
from bus.errors import JobError
from bus.jobs.client import Bus
from bus.jobs.submit import Accepted
from bus.subjects import JobKey
from bus.wire import Job
from gateway.limits.counted_jobs import CountedJob
from gateway.limits.limiter import Limiter
from gateway.limits.refusals import log_reached


class Place(NamedTuple):
    """The counts that a job which is about to be queued has added to."""

    key: JobKey
    counted: CountedJob | None
    is_reserved: bool


class Admission:
    """Counts jobs before they are queued, until they end."""

    def __init__(self, bus: Bus, limiter: Limiter) -> None:
        self._bus = bus
        self._limiter = limiter.jobs
        #: Keeps the blobs that a job names.
        self.inputs = HeldInputs(BlobStore(bus), bus.clock)
        #: These say which jobs of callers without a key need `admit`.
        self.audio = limiter.audio_room
        self.queue = limiter.queue_room
        #: Jobs that are counted in one way or another. While there are none, `ended` has nothing to do.
        self.counted = limiter.jobs.counted
        self.reserved = limiter.audio_room.table.by_name

    async def admit(self, key: JobKey, job: Job) -> Place:
        """Count a job that is about to be queued; pass the result to `queued` or `refused` afterwards.

        A request for a job that exists costs nothing. Cancelling leaves nothing counted. Raises TooMany for a limit of
        the caller's, StorageFull if all tenants have used up the room; Unreachable.
        """
        counted = await self._limiter.admit(key, job) if job.client.key else None
        try:
            answer = await self.queue.refusal(key.tenant, job) or await self.audio.reserve(key, job.max_bytes)
            if isinstance(answer, JobError):
                await self._refuse(key, answer)
                answer = False
        except BaseException:
            self._limiter.refused(counted)
            raise
        return Place(key, counted, answer)

    async def _refuse(self, key: JobKey, error: JobError) -> None:
        """Raise `error`, unless the job's log exists: then the request makes no job."""
        if await self._bus.logs.birth(key) is None:
            log_reached(key.tenant, f"tenant-{key.tenant}", error)
            raise error

    def queued(self, place: Place | None, accepted: Accepted) -> None:
        """Note that the job is on the bus, or that its log existed before."""
        if place is not None:
            self._limiter.queued(place.counted, accepted)
            if place.is_reserved:
                self.audio.queued(place.key, accepted.birth.queue_seq)

    def refused(self, place: Place | None) -> None:
        """Stop counting a job that the bus did not take."""
        if place is not None:
            self._limiter.refused(place.counted)
            if place.is_reserved:
                self.audio.release(place.key)

    def ended(self, key: JobKey) -> None:
        """Stop counting a job whose terminal entry was read."""
        self._limiter.ended(key)
        self.audio.release(key)
