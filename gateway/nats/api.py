"""The door for `nats req`: `<root>.submit` and `<root>.submit.<tenant>`, answered by whichever gateway gets a request.

An answer is a sequence of messages to the caller's inbox: `accepted` at once, then the log as it grows, `waiting` while
nothing comes, and an empty message at the end. The caller is a listener of its job: when it leaves, the job ends,
unless it runs on or others listen.
"""

import asyncio
from contextlib import aclosing
from typing import Any, Final

import msgspec

from bus import wire
from bus.errors import Invalid, Unreachable
from bus.fleet.fleet import Fleet
from bus.jobs.attach import Attachment
from bus.jobs.interest import Listener
from bus.params import short
from bus.subjects import JobKey, is_token, last_token
from bus.telemetry.logging import logger
from bus.transport.parser import Message
from bus.transport.replies import is_outside_inbox
from gateway.access.authenticator import Authenticator
from gateway.http.problems import Problem, describe, is_expected
from gateway.http.requests import Requests
from gateway.jobs.service import Jobs
from gateway.limits.limiter import RequestLimiter
from gateway.nats import request as nats_asked
from gateway.nats.reply import JOB, Caller, JsonVoice, RawVoice

log = logger(__name__)

_QUEUE: Final = "gateways"
#: Callers that one gateway serves at a time.
MAX_CALLERS: Final = 2000
WAITING_S: Final = 10.0
#: Requests are taken once a worker is known, or after so many looks: until then others would serve what we refuse.
_LOOKS: Final = 60
_LOOK_S: Final = 0.05
#: What a caller's client gets to reconnect after the server was away, before it is told that it missed something.
_COME_BACK_S: Final = 3.0
#: How long a server may be away before its callers are given up.
_AWAY_S: Final = 60.0


_STOPPING: Final = (
    "this gateway stops; ask again with the same body and id to hear the job from its beginning through another one"
)
_BROKEN: Final = (
    "the connection to NATS broke while you were listening, and part of the answer is lost; ask again with the same "
    "body and id to hear the job from its beginning"
)


class _Left(Exception):
    """The caller has gone."""


class _Broken(Unreachable):
    """The connection was down while something was said."""


class NatsApi:
    def __init__(
        self,
        jobs: Jobs,
        fleet: Fleet,
        authenticator: Authenticator,
        limiter: RequestLimiter,
        requests: Requests,
        tasks: asyncio.TaskGroup,
        *,
        waiting_s: float = WAITING_S,
        max_callers: int = MAX_CALLERS,
    ) -> None:
        """`waiting_s`: silence after which a caller is told that its job waits. `tasks` outlives every request."""
        self._jobs = jobs
        self._fleet = fleet
        self._authenticator = authenticator
        self._limiter = limiter
        self._requests = requests
        self._tasks = tasks
        self._waiting_s = waiting_s
        self._max_callers = max_callers
        self._connection = jobs.bus.connection
        self._num_callers = 0

    async def run(self) -> None:
        """Take requests until the gateway stops or this is cancelled; those that are being answered go on."""
        await self._get_to_know()
        connection, subjects = self._connection, self._jobs.bus.subjects
        taken = [
            connection.subscribe(subject, self._asked, queue=_QUEUE)
            for subject in (subjects.submit, subjects.all_submits_as)
        ]
        log.debug("submit.ready", subject=subjects.submit)
        try:
            await self._requests.stopping.wait()
        finally:
            for subscription in taken:
                subscription.close()

    async def _get_to_know(self) -> None:
        for _ in range(_LOOKS):
            if self._fleet.known_models:
                return
            await asyncio.sleep(_LOOK_S)

    def _asked(self, message: Message) -> None:
        if not is_outside_inbox(message.reply):
            log.warning("submit.reply_refused", subject=message.subject, reply=short(message.reply))
        elif self._num_callers >= self._max_callers:
            text = f"this gateway answers {self._num_callers} callers over NATS, the limit is {self._max_callers}"
            with Caller.at(self._connection, message.reply, lambda: None) as caller:
                caller.fail(Problem(status=503, code="too_many_callers", detail=text, retryable=True))
        else:
            self._num_callers += 1
            task = self._tasks.create_task(self._serve(message), name="submit")
            self._requests.enter(task)
            task.add_done_callback(self._served)

    def _served(self, task: "asyncio.Task[Any]") -> None:
        self._num_callers -= 1
        self._requests.leave(task)

    async def _serve(self, message: Message) -> None:
        """Answer one request, whatever happens to it."""
        left = asyncio.Event()
        connection = self._connection
        with Caller.at(connection, message.reply, left.set) as caller:
            try:
                try:
                    answer = _Answer(self._jobs, self._authenticator, self._limiter, caller, left, self._waiting_s)
                    await answer.give(message)
                except _Broken:
                    await connection.state.wait_up(_AWAY_S)
                    await asyncio.sleep(_COME_BACK_S)
                    raise
            except asyncio.CancelledError:
                caller.fail(Problem(status=503, code="gateway_stopping", detail=_STOPPING, retryable=True))
                raise
            except _Left:
                log.info("submit.abandoned", subject=message.subject)
            except Exception as error:  # noqa: BLE001 - the caller is told, and a bug in one request ends no gateway
                self._refuse(caller, message, error)

    def _refuse(self, caller: Caller, message: Message, error: Exception) -> None:
        problem = describe(error)
        if is_expected(error):
            log.info("submit.refused", subject=message.subject, status=problem.status, code=problem.code)
        else:
            log.error("submit.failed", subject=message.subject, exc_info=error)
        caller.fail(problem)


class _Answer:
    """One request's answer."""

    def __init__(
        self,
        jobs: Jobs,
        authenticator: Authenticator,
        limiter: RequestLimiter,
        caller: Caller,
        left: asyncio.Event,
        waiting_s: float,
    ) -> None:
        self._jobs = jobs
        self._authenticator = authenticator
        self._limiter = limiter
        self._caller = caller
        self._left = left
        self._waiting_s = waiting_s
        self._connection = jobs.bus.connection
        self._generation = self._connection.state.generation
        #: Whether an entry of the log has come.
        self._heard = False

    async def give(self, message: Message) -> None:
        """Accept, then say the log to its end. Raises _Left, _Broken, and what the request is refused for."""
        subjects = self._jobs.bus.subjects
        tenant = None if message.subject == subjects.submit else last_token(message.subject)
        if tenant is not None and not is_token(tenant):
            raise Invalid(f"tenant: {short(tenant)!r} must be 1 to 64 characters of A-Z a-z 0-9 _ -", "tenant")
        headers = nats_asked.headers_of(message)
        asks = self._authenticator.authenticate_message(headers.get("authorization", ""), tenant)
        self._limiter.grant(asks)
        request = nats_asked.read(message, headers, asks)
        job = self._jobs.validate(request.job, streams=True, size_hint_bytes=len(message.data))
        key = subjects.job_key(job.tenant, job.id)
        voice = JsonVoice(self._caller) if request.encoding == "json" else RawVoice(self._caller)
        async with self._jobs.listen(key, job) as (listener, attachment):
            accepted = await self._jobs.accept(job, listener)
            body = {"status": "accepted", "job": job.id, "live": key.live, "reply": key.entries}
            self._caller.tell("accepted", body, {JOB: job.id})
            if not accepted.is_new:
                await self._jobs.find(key)
                attachment.read_back()
            await self._relay(key, accepted.birth, attachment, voice, listener)

    async def _relay(
        self,
        key: JobKey,
        birth: wire.Birth,
        attachment: Attachment,
        voice: RawVoice | JsonVoice,
        listener: Listener,
    ) -> None:
        """Say what `attachment` brings, until the job's end or the caller's leaving."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = (tasks.create_task(self._watch()), tasks.create_task(self._wait(key, birth)))
                await self._say(key, attachment, voice, listener)
                for task in beside:
                    task.cancel()
        except ExceptionGroup as group:
            broken = group.subgroup(_Broken)
            if broken is not None:
                # That is no leaving: the caller may ask again, through any gateway.
                listener.saw_end = True
            raise (broken or group).exceptions[0] from None

    async def _say(self, key: JobKey, attachment: Attachment, voice: RawVoice | JsonVoice, listener: Listener) -> None:
        async with aclosing(aiter(attachment)) as batches:
            async for batch in batches:
                self._check_unbroken()
                self._heard = True
                if batch[-1].is_end:
                    listener.saw_end = True
                    self._jobs.ended(key)
                voice.say(batch)
                await self._caller.keep_up()
        self._caller.end()
        await self._connection.flush()
        self._check_unbroken()

    def _check_unbroken(self) -> None:
        """What was said while the connection was down is lost, and what the caller's own client missed as well."""
        connection = self._connection
        if connection.state.generation != self._generation or not connection.state.is_up:
            raise _Broken(_BROKEN)

    async def _watch(self) -> None:
        await self._left.wait()
        self._check_unbroken()
        raise _Left

    async def _wait(self, key: JobKey, birth: wire.Birth) -> None:
        """Tell that the job waits whenever nothing was said for a while; by that the caller's leaving is noticed."""
        while True:
            num_said = self._caller.num_said
            await asyncio.sleep(self._waiting_s)
            self._check_unbroken()
            if self._caller.num_said == num_said:
                where = None if self._heard else await self._jobs.queue_position(birth)
                told = {} if where is None else msgspec.to_builtins(where)
                self._caller.tell("waiting", {"status": "waiting", "job": key.job, **told})
