"""Dead letters for operators: list messages of JOBS that were given up, queue them again, drop them."""

import uuid
from collections import deque
from typing import Any

import msgspec

from bus import wire
from bus.errors import Invalid, Malformed, NotFound
from bus.jobs.client import Bus
from bus.jobs.submit import submit
from bus.jobs.validate import read_job
from bus.subjects import parse_job_of
from bus.transport.direct import Stored

_HIDDEN = "***"


class DeadLetter(msgspec.Struct, frozen=True):
    """One stored dead letter."""

    #: Sequence in DEAD.
    seq: int
    tenant: str
    #: The job's id; for a message that was no job, the id that the bus assigned (`q<sequence>`).
    job: str
    #: RFC 3339, the server's clock.
    stored_at: str
    dead: wire.DeadJob

    def view(self) -> dict[str, Any]:
        """For operators: with the job itself if it is one, its secret hidden, else with the raw payload as text."""
        dead = self.dead
        shown: dict[str, Any] = {
            "id": self.job,
            "tenant": self.tenant,
            "buried_at": self.stored_at,
            "reason": dead.reason,
            "attempts": dead.attempts,
            "host_deaths": dead.host_deaths,
            "worker": dead.worker or None,
            "traceback": dead.traceback or None,
            "subject": dead.subject,
        }
        try:
            shown["job"] = msgspec.to_builtins(_without_secret(wire.decode(wire.Job, dead.payload)))
        except Malformed:
            shown["payload"] = dead.payload.decode(errors="backslashreplace")
        return shown


class DeadLetters:
    """The dead letters of one deployment. `bus.jobs.giving_up` writes them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stream = bus.subjects.dead_stream

    async def newest(self, limit: int) -> list[DeadLetter]:
        """At most `limit`, newest first. Raises Unreachable."""
        return [_letter(stored) for stored in reversed(await self._read(self._bus.subjects.dead, limit))]

    async def find(self, job: str, tenant: str | None = None) -> DeadLetter:
        """The newest dead letter of this job.

        Raises:
            NotFound: there is none.
            Invalid: several tenants have one, and `tenant` is None; or an argument is no subject token.
        """
        try:
            subject = self._bus.subjects.dead_of(tenant, job)
        except ValueError as error:
            raise Invalid(str(error)) from error
        found = [_letter(stored) for stored in await self._read(subject, 1000)]
        if not found:
            raise NotFound(f"no dead letter {job!r}" + (f" of tenant {tenant!r}" if tenant else ""))
        tenants = sorted({letter.tenant for letter in found})
        if len(tenants) > 1:
            raise Invalid(f"{job!r} is dead for the tenants {', '.join(tenants)}: name one of them")
        return found[-1]

    async def retry(self, letter: DeadLetter) -> wire.Job:
        """Queue the job again, as a new job (an ended log is final), and remove the letter; returns the new job.

        A crash between the two leaves both: the letter can be dropped. Raises Invalid if the message never was a job,
        or is one that a worker would refuse again; else as `bus.jobs.submit.submit` does.
        """
        try:
            # Without its id: one that the bus assigned (`q7`) belongs to the old message alone.
            bare = msgspec.structs.replace(wire.decode(wire.Job, letter.dead.payload), id="", expires_at=None)
            subject = self._bus.subjects.parse_job(letter.dead.subject)
            job = read_job(subject, 0, wire.encode(bare), self._bus.clock.now())
        except (ValueError, Malformed, Invalid) as error:
            raise Invalid(f"{letter.job!r} is no job that can be tried again: {error}") from error
        again = msgspec.structs.replace(job, id=uuid.uuid4().hex, retry_of=letter.job)
        accepted = await submit(self._bus, again)
        await self.drop(letter)
        return accepted.job

    async def drop(self, letter: DeadLetter) -> None:
        """Remove it. Idempotent."""
        await self._bus.js.delete(self._stream, letter.seq)

    async def _read(self, subject: str, limit: int) -> list[Stored]:
        """The last `limit` of `subject`, oldest first."""
        found: deque[Stored] = deque(maxlen=limit)
        pending, after = 1, 0
        while pending:
            page, pending = await self._bus.js.direct.page(self._stream, subject, after + 1)
            found += page
            after = page[-1].seq if page else after
            if not page:
                break
        return list(found)


def _without_secret(job: wire.Job) -> wire.Job:
    hook = job.client.webhook
    if hook is None or not hook.secret:
        return job
    hook = msgspec.structs.replace(hook, secret=_HIDDEN)
    return msgspec.structs.replace(job, client=msgspec.structs.replace(job.client, webhook=hook))


def _letter(stored: Stored) -> DeadLetter:
    tenant, job = parse_job_of(stored.message.subject)
    dead = wire.decode(wire.DeadJob, stored.message.data)
    return DeadLetter(stored.seq, tenant, job, stored.stored_at, dead)
