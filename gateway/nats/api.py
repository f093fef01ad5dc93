"""The API for `nats req`: a request on `<root>.submit` or `<root>.submit.<tenant>` is served by one of the gateways.

The reply is a sequence of messages to the caller's inbox: `accepted` at once, then the entries of the log as it grows,
`waiting` after a time without messages, and an empty message at the end. The caller is a listener of its job: when it
leaves, the job ends, unless it runs on or others listen.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, aclosing
from typing import Final

import msgspec

from bus import wire
from bus.errors import Invalid, Unreachable
from bus.fleet.fleet import Fleet
from bus.jobs.attach import Attachment
from bus.jobs.interest import Listener
from bus.params import short
from bus.routes.route import Route
from bus.subjects import JobKey, is_token, last_token
from bus.telemetry.logging import bound, logger
from bus.transport.bucket import BucketCopy
from bus.transport.parser import Message
from bus.transport.replies import CallerInboxes
from gateway.access.authenticator import Authenticator
from gateway.access.caller import Caller
from gateway.api.routing import routed_message
from gateway.codecs.format import PCM, marks_of
from gateway.http.headers import MARKED_HEADER, voice_headers
from gateway.http.problems import Problem, describe, is_expected
from gateway.http.requests import Requests
from gateway.jobs.service import Jobs
from gateway.limits.limiter import RequestLimiter
from gateway.limits.pacing import Pacing
from gateway.limits.pools import Pool
from gateway.nats import request as nats_request
from gateway.nats.reply import JOB, JsonEntries, RawEntries, Reply

log = logger(__name__)

_QUEUE: Final = "gateways"
#: Callers that one gateway serves at a time.
MAX_CALLERS: Final = 2000
WAITING_S: Final = 10.0
#: Requests are taken once a worker is known, or after this many looks: until then other gateways serve requests that
#: this one would refuse.
_LOOKS: Final = 60
_LOOK_S: Final = 0.05
#: Seconds that the caller's client gets to reconnect after an outage, before the reply reports it.
_RECONNECT_S: Final = 3.0
#: Seconds of an outage after which its callers are given up.
_OUTAGE_S: Final = 60.0


_STOPPING: Final = (
    "this gateway stops; send the request again with the same body and id to receive the job from its beginning through"
    " another one"
)
_BROKEN: Final = (
    "the connection to NATS broke during the reply, and part of it is lost; send the request again with the same body"
    " and id to receive the job from its beginning"
)


class _Left(Exception):
    """The caller has left."""


class _Broken(Unreachable):
    """The connection was down during the reply, so messages to the caller are lost."""


class NatsApi:
    """Serves requests over NATS, each in a task of its own."""

    def __init__(
        self,
        jobs: Jobs,
        fleet: Fleet,
        routes: BucketCopy[Route],
        authenticator: Authenticator,
        limiter: RequestLimiter,
        requests: Requests,
        pacing: Pacing,
        tasks: asyncio.TaskGroup,
        *,
        waiting_s: float = WAITING_S,
        max_callers: int = MAX_CALLERS,
    ) -> None:
        """`waiting_s`: time without messages after which the reply has a `waiting`. `tasks` outlives every request."""
        self._jobs = jobs
        self._fleet = fleet
        self._routes = routes
        self._authenticator = authenticator
        self._limiter = limiter
        self._requests = requests
        self._pacing = pacing
        self._tasks = tasks
        self._waiting_s = waiting_s
        self._callers = Pool("nats_callers", "places for callers over NATS", max_callers)
        self._connection = jobs.bus.connection
        self._inboxes = CallerInboxes(jobs.bus.settings.nats)

    async def run(self) -> None:
        """Take requests until the gateway stops or this is cancelled; requests in progress go on."""
        await self._await_worker()
        connection, subjects = self._connection, self._jobs.bus.subjects
        subscriptions = [
            connection.subscribe(subject, self._received, queue=_QUEUE)
            for subject in (subjects.submit, subjects.all_submits_as)
        ]
        log.debug("submit.ready", subject=subjects.submit)
        try:
            await self._requests.stopping.wait()
        finally:
            for subscription in subscriptions:
                subscription.close()

    async def _await_worker(self) -> None:
        for _ in range(_LOOKS):
            if self._fleet.known_models:
                return
            await asyncio.sleep(_LOOK_S)

    def _received(self, message: Message) -> None:
        tenant = self._tenant(message)
        if not self._inboxes.allow(message.reply, tenant):
            required = short(self._inboxes.prefix(tenant))
            log.warning("submit.reply_refused", subject=message.subject, reply=short(message.reply), required=required)
        else:
            task = self._tasks.create_task(self._serve(message), name="submit")
            self._requests.tasks.add(task)
            task.add_done_callback(self._requests.tasks.discard)

    def _tenant(self, message: Message) -> str | None:
        """The tenant in the subject of a request."""
        return None if message.subject == self._jobs.bus.subjects.submit else last_token(message.subject)

    async def _serve(self, message: Message) -> None:
        """Serve one request to its end, however it ends."""
        left = asyncio.Event()
        connection = self._connection
        with Reply.to(connection, message.reply, left.set) as reply, ExitStack() as context:
            try:
                try:
                    request = _Submission(self._jobs, self._routed, self._limiter, reply, left, self._waiting_s)
                    caller = self._caller(message)
                    context.enter_context(bound(tenant=caller.tenant))
                    with self._callers.holding(caller.owner, 1):
                        await self._pacing.begin(caller.owner)
                        await request.serve(message, caller)
                except _Broken:
                    await connection.state.wait_up(_OUTAGE_S)
                    await asyncio.sleep(_RECONNECT_S)
                    raise
            except asyncio.CancelledError:
                reply.fail(Problem(status=503, code="gateway_stopping", detail=_STOPPING, retryable=True))
                raise
            except _Left:
                log.info("submit.abandoned", subject=message.subject)
            except Exception as error:  # noqa: BLE001 - the reply reports it: a fault in one request ends no gateway
                self._refuse(reply, message, error)

    def _routed(self, job: wire.Job, headers: dict[str, str]) -> wire.Job:
        """The job with model and version of its route. Raises NoWorker for a version that no worker has."""
        routes = self._routes.entries
        return routed_message(routes, self._fleet, job, headers) if routes else job

    def _caller(self, message: Message) -> Caller:
        """The authenticated caller. Raises Invalid, Unauthorized."""
        tenant = self._tenant(message)
        if tenant is not None and not is_token(tenant):
            raise Invalid(f"tenant: {short(tenant)!r} must be 1 to 64 characters of A-Z a-z 0-9 _ -", "tenant")
        authorization = nats_request.headers_of(message).get("authorization", "")
        return self._authenticator.authenticate_message(authorization, tenant)

    def _refuse(self, reply: Reply, message: Message, error: Exception) -> None:
        problem = describe(error)
        if is_expected(error):
            log.info("submit.refused", subject=message.subject, status=problem.status, code=problem.code)
        else:
            log.error("submit.failed", subject=message.subject, exc_info=error)
        reply.fail(problem)


class _Submission:
    """One request: accepts its job, and sends the job's log."""

    def __init__(
        self,
        jobs: Jobs,
        routed: Callable[[wire.Job, dict[str, str]], wire.Job],
        limiter: RequestLimiter,
        reply: Reply,
        left: asyncio.Event,
        waiting_s: float,
    ) -> None:
        """`routed`: gives a job the model and version of its route. `left`: set once the caller has left."""
        self._jobs = jobs
        self._routed = routed
        self._limiter = limiter
        self._reply = reply
        self._left = left
        self._waiting_s = waiting_s
        self._connection = jobs.bus.connection
        self._generation = self._connection.state.generation
        self._has_entry = False

    async def serve(self, message: Message, caller: Caller) -> None:
        """Accept the job, then send its log to the end. Raises _Left, _Broken, and the errors of a refused request."""
        self._limiter.grant(caller)
        headers = nats_request.headers_of(message)
        request = nats_request.read(message, headers, caller)
        job = self._routed(request.job, headers)
        job = self._jobs.validate(job, streams=True, size_hint_bytes=len(message.data))
        key = self._jobs.key(job.tenant, job.id)
        entries = JsonEntries(self._reply) if request.encoding == "json" else RawEntries(self._reply)
        async with self._jobs.listen(key, job) as (listener, attachment):
            accepted = await self._jobs.accept(job, listener)
            marks = marks_of(PCM, accepted.job)
            body = {"status": "accepted", "job": job.id, "live": key.live, "reply": key.entries}
            self._reply.send_event("accepted", body, {JOB: job.id, MARKED_HEADER: marks, **voice_headers(accepted.job)})
            if not accepted.is_new:
                await self._jobs.find(key)
                attachment.read_back()
            await self._relay(key, accepted.birth, attachment, entries, listener)

    async def _relay(
        self,
        key: JobKey,
        birth: wire.Birth,
        attachment: Attachment,
        entries: RawEntries | JsonEntries,
        listener: Listener,
    ) -> None:
        """Send the log until the job ends or the caller leaves."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = (tasks.create_task(self._watch_caller()), tasks.create_task(self._report_waiting(key, birth)))
                await self._send_log(key, attachment, entries, listener)
                for task in beside:
                    task.cancel()
        except ExceptionGroup as group:
            broken = group.subgroup(_Broken)
            if broken is not None:
                # The caller did not leave: it may send the request again, through any gateway.
                listener.saw_end = True
            raise (broken or group).exceptions[0] from None

    async def _send_log(
        self, key: JobKey, attachment: Attachment, entries: RawEntries | JsonEntries, listener: Listener
    ) -> None:
        async with self._jobs.damaged.reported(key), aclosing(aiter(attachment)) as batches:
            async for batch in batches:
                self._check_unbroken()
                self._has_entry = True
                if batch[-1].is_end:
                    listener.saw_end = True
                    self._jobs.ended(key)
                entries.send(batch)
                await self._reply.keep_up()
        self._reply.end()
        await self._connection.flush()
        self._check_unbroken()

    def _check_unbroken(self) -> None:
        """Raises _Broken if the connection was down since the request came: messages to the caller may be lost."""
        state = self._connection.state
        if state.generation != self._generation or not state.is_up:
            raise _Broken(_BROKEN)

    async def _watch_caller(self) -> None:
        await self._left.wait()
        self._check_unbroken()
        raise _Left

    async def _report_waiting(self, key: JobKey, birth: wire.Birth) -> None:
        """Send `waiting` after each time without messages: without messages the caller could not be seen leaving."""
        while True:
            num_sent = self._reply.num_sent
            await asyncio.sleep(self._waiting_s)
            self._check_unbroken()
            if self._reply.num_sent == num_sent:
                place = None if self._has_entry else await self._jobs.queue_position(birth)
                position = {} if place is None else msgspec.to_builtins(place)
                self._reply.send_event("waiting", {"status": "waiting", "job": key.job, **position})
