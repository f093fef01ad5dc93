"""`POST /v1/jobs:batch`: many jobs in one request, one line of JSON each; each line is answered once it is accepted."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from bus.errors import Invalid
from bus.jobs.submit import keyed_id
from bus.wire import State
from gateway.api.job_fields import KEY, HttpJobRequest, build_job, our_model
from gateway.http.bodies import Body
from gateway.http.counting import count_one_more
from gateway.http.headers import idempotency_key
from gateway.http.operation import LINES, Answer, operation
from gateway.http.problems import ProblemBody, describe, is_expected
from gateway.http.responses import begin
from gateway.http.services import JOBS
from gateway.jobs.view import AcceptedJob, Links
from gateway.webhooks.acceptance import WEBHOOKS

MAX_LINES: Final = 1000
#: The body may be this many times as large as that of other requests.
_MAX_BODIES: Final = 16
_API: Final = "batch"
_LANE: Final = "batch"
#: Lines that are accepted at a time.
_CONCURRENCY: Final = 16

_body: Final = Body(HttpJobRequest)


class BatchLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The answer to one line."""

    #: The line's number in the request, from 1.
    line: int
    #: The status that the job would get in a request of its own: 202, 200 if the job existed, or that of an error.
    status: int
    id: str | UnsetType = UNSET
    state: State | UnsetType = UNSET
    links: Links | UnsetType = UNSET
    error: ProblemBody | UnsetType = UNSET


@operation(
    "Accept up to 1,000 jobs.",
    text="The body has one job per line. The response has one line for each, in the same order, as soon as the job is "
    "accepted. A refused line stops no other. The lane is `batch` by default. Lines beyond a limit of requests per "
    "second wait for it. The same lines sent again with the same `Idempotency-Key` answer with the same jobs.",
    body=HttpJobRequest,
    body_media=LINES,
    parameters=(KEY,),
    answers={200: Answer("An answer to each line.", BatchLine, LINES)},
)
async def create(request: web.Request) -> web.StreamResponse:
    """Accept each line in turn. If the client hangs up, accepted jobs stay and the other lines are dropped."""
    lines = _lines(await _read(request))
    batch = _Batch(request)
    response = web.StreamResponse(headers={"Content-Type": LINES[0], "X-Accel-Buffering": "no"})
    await begin(request, response)
    pending: deque[asyncio.Task[BatchLine]] = deque()
    async with client_leaves(), asyncio.TaskGroup() as tasks:

        async def answer(most: int) -> None:
            """Write answers in order, until at most `most` lines are pending."""
            while len(pending) > most:
                await response.write(msgspec.json.encode(await pending.popleft()) + b"\n")

        for index, (number, data) in enumerate(lines):
            # The first line was counted with the request.
            while index and (wait_s := count_one_more(request)):
                await answer(0)
                await asyncio.sleep(wait_s)
            pending.append(tasks.create_task(batch.line(number, data)))
            await answer(_CONCURRENCY - 1)
        await answer(0)
    await response.write_eof()
    return response


@contextlib.asynccontextmanager
async def client_leaves() -> AsyncIterator[None]:
    """Raise the ConnectionError alone that ends a group of tasks: a client that hangs up is no failure."""
    try:
        yield
    except ExceptionGroup as group:
        if group.split(ConnectionError)[1] is None:
            raise ConnectionResetError("the client hung up") from None
        raise


class _Batch:
    """Accepts the lines of one request."""

    def __init__(self, request: web.Request) -> None:
        """Raises Invalid for the request's Idempotency-Key."""
        self._request = request
        self._key = idempotency_key(request)

    async def line(self, number: int, data: bytes) -> BatchLine:
        """Accept one line; its answer, an error's too."""
        try:
            return await self._accepted(number, data)
        except Exception as error:
            if not is_expected(error):
                raise
            problem = describe(error)
            return BatchLine(line=number, status=problem.status, error=ProblemBody.of(problem))

    async def _accepted(self, number: int, data: bytes) -> BatchLine:
        jobs = self._request.app[JOBS]
        webhooks = self._request.app[WEBHOOKS]
        body = _body.read(data)
        body = msgspec.structs.replace(body, lane=body.lane or _LANE)
        job_id = body.id or self._keyed_id(number)
        model = our_model(self._request, body.model, version=body.version, job_id=job_id)
        job = build_job(self._request, _API, body, model, job_id=job_id)
        job = jobs.validate(job, streams=False, size_hint_bytes=len(data))
        accepted = await webhooks.accept(webhooks.with_webhook(job, body.webhook))
        state = State.QUEUED if accepted.is_new else (await jobs.find(jobs.key(job.tenant, job.id))).state
        status = HTTPStatus.ACCEPTED if accepted.is_new else HTTPStatus.OK
        shown = AcceptedJob.of(accepted.birth, state)
        return BatchLine(line=number, status=int(status), id=shown.id, state=shown.state, links=shown.links)

    def _keyed_id(self, number: int) -> str:
        """The id of a line that has none, if the request has an Idempotency-Key; else ""."""
        return keyed_id(_API, f"{number}\0{self._key}") if self._key else ""


async def _read(request: web.Request) -> bytes:
    """The complete body: if a client reads only after it has sent, answers to its first lines would block both sides.

    Raises HTTPRequestEntityTooLarge.
    """
    most = request.client_max_size * _MAX_BODIES
    size = request.content_length or 0
    body = bytearray()
    while size <= most:
        data = await request.content.readany()
        if not data:
            return bytes(body)
        body += data
        size = max(size, len(body))
    raise web.HTTPRequestEntityTooLarge(most, size)


def _lines(body: bytes) -> list[tuple[int, bytes]]:
    """(number, line) of each line that is not blank, numbered from 1 with the blank ones. Raises Invalid."""
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    if not 0 < len(lines) <= MAX_LINES:
        raise Invalid(f"body: must have 1 to {MAX_LINES} lines, not {len(lines)}", "body")
    return lines
