"""What every handler shares: one gateway process's bus, fleet, admission, and how it accepts a job."""

import asyncio
from typing import TYPE_CHECKING, Any, Final, Optional

import msgspec
from aiohttp import web

from bus import wire
from bus.access.keyring import KeyRing
from bus.errors import BusError, NotFound, Unreachable
from bus.fleet.fleet import Fleet
from bus.jobs.client import Bus
from bus.jobs.interest import Interest, Listener
from bus.jobs.retention import Retention
from bus.jobs.submit import Accepted, submit
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gateway.access.addresses import Addresses
from gateway.access.authenticator import Authenticator
from gateway.access.caller import caller
from gateway.access.origins import Origins
from gateway.codecs.encoded_cache import Renderings
from gateway.codecs.recording import Recordings
from gateway.jobs.cache import Reuse
from gateway.jobs.deadlines import Deadlines
from gateway.jobs.queue_position import Starts
from gateway.jobs.validation import Admission
from gateway.limits.counted_jobs import Counted
from gateway.limits.limiter import Limiter
from gateway.limits.rates import rate_of
from gateway.settings import GatewaySettings
from gateway.webhooks.queue import Hooks

if TYPE_CHECKING:
    from gateway.access.tokens import Tokens

log = logger(__name__)

#: `request[JOB]`: the id that every answer to this request bears, an error too.
JOB: Final = web.RequestKey("job", str)
#: `request[BEGUN]`: the response whose head has been sent; only its connection can tell of an error now.
BEGUN: Final = web.RequestKey("begun", web.StreamResponse)


class Gateway:
    def __init__(
        self,
        bus: Bus,
        settings: GatewaySettings,
        tasks: asyncio.TaskGroup,
        tokens: Optional["Tokens"] = None,
        addresses: Addresses | None = None,
    ) -> None:
        """`tasks` outlives every request; `tokens` checks callers' JSON Web Tokens, if any are taken."""
        self.bus, self.settings, self._tasks = bus, settings, tasks
        self.interest = Interest(bus.connection, bus.logs, tasks)
        self.keys = KeyRing(bus)
        address_rate = rate_of(settings.address_requests_per_s, settings.address_burst)
        self.limiter = Limiter(bus, self.keys, address_rate, tasks)
        self.origins = Origins(settings.cors_origins)
        self.authenticator = Authenticator(
            self.keys,
            tokens,
            self.origins,
            addresses or Addresses(()),
            host=settings.host,
            anonymous=settings.anonymous,
        )
        self.fleet = Fleet(bus, settings.ping_s, tasks, self.interest.maybe_held_by)
        self.deadlines = Deadlines(bus, tasks)
        self.starts = Starts(self.fleet)
        self.retention = Retention(bus)
        self.reuse = Reuse(bus.logs)
        self.hooks = Hooks(bus)
        self.renderings = Renderings(settings.encoded_cache_bytes)
        self.recordings = Recordings(self.renderings, settings.encoded_cache_bytes, settings.encoded_max_s)
        self.admission = Admission(self.fleet, bus.clock, bus.settings.max_job_bytes)
        #: Tasks of the requests in progress.
        self.busy: set[asyncio.Task[Any]] = set()
        self.stopping = asyncio.Event()
        #: Set once it stops and no request is in progress.
        self.idle = asyncio.Event()

    def enter(self, task: asyncio.Task[Any]) -> None:
        self.busy.add(task)

    def leave(self, task: asyncio.Task[Any]) -> None:
        self.busy.discard(task)
        if self.stopping.is_set() and not self.busy:
            self.idle.set()

    def stop(self) -> None:
        """Requests in progress go on; `idle` tells when there is none."""
        self.stopping.set()
        if not self.busy:
            self.idle.set()

    def name(self, request: web.Request) -> JobKey:
        """The log that `{id}` of the path names. Raises NotFound for what can be no id."""
        job_id = request.match_info["id"]
        try:
            name = self.bus.subjects.job_key(caller(request).tenant, job_id)
        except ValueError as error:
            raise NotFound(f"id: {error}") from error
        request[JOB] = job_id
        return name

    async def accept(self, name: JobKey, job: wire.Job, listener: Listener | None = None) -> Accepted:
        """Put a complete job on the bus and watch its deadline; `listener` is who waits for its sound, if anybody.

        A client that leaves in the middle leaves a job of which nobody can tell yet whether it is queued: that is
        settled behind its back. Raises as `bus.jobs.submit.submit` does, StorageFull before the streams are full, and
        TooMany.
        """
        self.retention.check_room()
        counted = await self.limiter.admit(name, job)
        try:
            accepted = await submit(self.bus, job)
        except asyncio.CancelledError:
            if listener is not None and not self.stopping.is_set():
                listener.saw_end = True
                self._tasks.create_task(self._settle(name, job, counted), name=f"settle {job.id}")
            raise
        except Unreachable:
            raise  # perhaps only the answer is missing: it counts until the queue and its log have been asked
        except BaseException:
            self.limiter.refused(counted)
            raise
        if accepted.is_new:
            log.debug("job.accepted", job=job.id, tenant=job.tenant, model=job.model, lane=job.lane)
        self.limiter.queued(counted, accepted)
        self.deadlines.watch(name, accepted.birth)
        return accepted

    def ended(self, name: JobKey) -> None:
        """The end of a log was heard: nobody needs to look for it."""
        self.deadlines.forget(name)
        self.limiter.ended(name)

    async def _settle(self, name: JobKey, job: wire.Job, counted: Counted | None) -> None:
        """Finish an acceptance that was cut off: submitting again attaches to what is there, or makes it whole."""
        try:
            self.limiter.queued(counted, await submit(self.bus, job))
        except BusError as error:
            log.warning("job.abandon_failed", job=job.id, tenant=job.tenant, error=str(error))
            return
        if not job.run_on:
            await self.interest.left(name, job.linger_s)


GATEWAY: Final = web.AppKey("gateway", Gateway)


async def begin(request: web.Request, response: web.StreamResponse) -> None:
    """Make the head of a streaming response ready; it leaves with the first bytes of the body."""
    request[BEGUN] = response
    await response.prepare(request)


def json_answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )
