"""The inputs of jobs that are about to be accepted: blobs of the job's tenant, which stay until its deadline."""

from typing import Final

from bus import wire
from bus.blobs.store import BlobStore
from bus.errors import Invalid, NotFound, VoiceGone
from bus.jobs.birth import with_deadline
from bus.transport.clock import BusClock
from bus.voices import CLIP_INPUTS

#: A worker may fetch an input just before the deadline, by another clock.
_SLACK_S: Final = 60.0


class HeldInputs:
    """Keeps the inputs of jobs."""

    def __init__(self, store: BlobStore, clock: BusClock) -> None:
        self._store = store
        self._clock = clock

    async def hold(self, job: wire.Job) -> None:
        """Keep each input of `job` until its deadline. Cancelling leaves some of them kept.

        Raises Invalid, naming the input, if the tenant has no such blob; VoiceGone for one of its voice; Unreachable.
        """
        due = with_deadline(job, self._clock.now()).expires_at
        assert due is not None, "with_deadline"
        for name, digest in job.inputs.items():
            try:
                await self._store.keep(job.tenant, digest, held_until=due.timestamp() + _SLACK_S)
            except NotFound as error:
                if name in CLIP_INPUTS and job.voice:
                    raise VoiceGone(f"voice: {job.voice!r} was deleted or replaced a moment ago") from error
                raise Invalid(
                    f"inputs.{name}: there is no blob {digest} of this tenant; send it to PUT /v1/blobs first",
                    f"inputs.{name}",
                ) from error
