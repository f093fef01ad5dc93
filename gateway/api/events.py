"""A job's log as server-sent events: every entry, of the audio only its marks; and its place in the queue."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import BusError, Invalid
from bus.jobs import lookup
from bus.jobs.attach import Attachment
from bus.jobs.entry import STARTED, Entry
from bus.jobs.status import Status
from bus.params import short
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gateway.api.answers import ID
from gateway.api.marks import rate_of, shown
from gateway.http import sse
from gateway.http.headers import JOB_HEADER
from gateway.http.operation import EVENTS, Answer, Parameter, operation
from gateway.http.requests import Requests
from gateway.http.responses import begin, cut_short
from gateway.http.services import JOBS, REQUESTS, job_key
from gateway.jobs.queue_position import QueuePosition
from gateway.jobs.service import MAX_BUFFER_BYTES, Jobs
from gateway.jobs.view import when

log = logger(__name__)

_MAX_SEQ: Final = 2**63 - 1
_KEEP_ALIVE_S: Final = 15.0
_QUEUE_S: Final = 2.0
_HEADERS: Final = {
    "Content-Type": sse.CONTENT_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


@operation(
    "Follow a job's log, all but the audio, as server-sent events.",
    parameters=(
        ID,
        Parameter("Last-Event-ID", Annotated[int, Meta(ge=0, le=_MAX_SEQ)], "Resume behind it.", where="header"),
    ),
    answers={
        200: Answer("An event for each entry.", media=EVENTS, kind=dict[str, Any]),
        204: Answer("There is nothing behind that event."),
    },
)
async def events(request: web.Request) -> web.StreamResponse:
    """`GET /v1/jobs/{id}/events`. `Last-Event-ID` is the stream sequence of the last entry the client has."""
    jobs, key = request.app[JOBS], job_key(request)
    after_seq = _last_event_id(request)
    found = await jobs.find(key)
    if found.is_ended and found.tail is not None and after_seq >= found.tail.seq:
        return web.Response(status=204, headers={JOB_HEADER: key.job})  # tells an EventSource not to come back
    response = web.StreamResponse(headers={**_HEADERS, JOB_HEADER: key.job})
    await begin(request, response)
    head = b"retry: 1000\n\n"
    if after_seq < found.birth_seq:
        head += _accepted(found)
        after_seq = 0
    await response.write(head)
    story = _Story(jobs, key, found, response)
    try:
        async with asyncio.TaskGroup() as tasks:
            ticker = tasks.create_task(story.tick())
            stopper = tasks.create_task(_stop(request.app[REQUESTS]))
            await story.tell(after_seq)
            ticker.cancel()
            stopper.cancel()
    except* _Stopping:
        log.debug("stream.abandoned", job=key.job, tenant=key.tenant, error="this gateway stops")
    except* ConnectionError as error:
        log.debug("stream.abandoned", job=key.job, tenant=key.tenant, error=str(error.exceptions[0]))
    except* BusError as error:
        log.warning("stream.cut", job=key.job, tenant=key.tenant, error=str(error.exceptions[0]))
        cut_short(request)
    return response


class _Stopping(Exception):
    """This process ends; the client comes back to another one."""


async def _stop(requests: Requests) -> None:
    await requests.stopping.wait()
    raise _Stopping


class _Story:
    """One response that tells one log."""

    def __init__(self, jobs: Jobs, key: JobKey, found: Status, response: web.StreamResponse) -> None:
        self._jobs = jobs
        self._key = key
        self._birth = found.birth
        self._response = response
        self._birth_seq = found.birth_seq
        self._rate_hz = 0
        self._waits = found.state == "queued"
        self._place: QueuePosition | None = None

    async def tell(self, after_seq: int) -> None:
        """Write what the log says after that entry, until its end."""
        bus = self._jobs.bus
        attachment = Attachment(
            bus.connection, bus.logs, self._key, after_seq=after_seq, max_buffer_bytes=MAX_BUFFER_BYTES
        )
        async with attachment, aclosing(aiter(attachment)) as batches:
            async for batch in batches:
                self._waits = False
                told = b"".join([await self._told(entry) for entry in batch])
                if told:
                    await self._response.write(told)

    async def _told(self, entry: Entry) -> bytes:
        """The events of one entry. Of a block: that an attempt begins with it, and the marks in it."""
        told = b""
        started = entry.message.header(STARTED)
        if started is not None:
            told = sse.event("started", started.encode(), entry.seq)
            self._rate_hz = rate_of(entry) or self._rate_hz
        if entry.kind == "block":
            marks = entry.marks
            return told + await self._marks(marks, entry.seq) if marks else told
        return told + sse.event(entry.kind, b"{}" if entry.kind == "checkpoint" else entry.payload, entry.seq)

    async def _marks(self, marks: list[wire.Mark], seq: int) -> bytes:
        if not self._rate_hz:  # a client that came back; what tells the rate it has had before
            media = await lookup.media(self._jobs.bus, self._key, self._birth_seq)
            if media is None:
                return b""
            self._rate_hz = media[0]
        text = self._birth.job.input
        told = {"marks": [shown(mark, text, self._rate_hz) for mark in marks]}
        return sse.event("marks", msgspec.json.encode(told), seq)

    async def tick(self) -> None:
        """Tell the place in the queue whenever it changes, and something at least every `_KEEP_ALIVE_S`."""
        loop = asyncio.get_running_loop()
        said_at = loop.time()
        while True:
            told = await self._queue()
            if not told and loop.time() - said_at >= _KEEP_ALIVE_S:
                told = b": still here\n\n"
            if told:
                said_at = loop.time()
                await self._response.write(told)
            await asyncio.sleep(_QUEUE_S)

    async def _queue(self) -> bytes:
        if not self._waits:
            return b""
        now = await self._jobs.queue_position(self._birth)
        if now is None or now == self._place or not self._waits:
            return b""
        self._place = now
        return sse.event("queue", msgspec.json.encode(now))


def _accepted(found: Status) -> bytes:
    job = found.birth.job
    told = {
        "id": job.id,
        "model": job.model,
        "version": job.version,
        "lane": job.lane,
        "accepted_at": when(found.birth.accepted_at),
    }
    return sse.event("accepted", msgspec.json.encode(told), found.birth_seq)


def _last_event_id(request: web.Request) -> int:
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MAX_SEQ):
        raise Invalid(f"Last-Event-ID: must be the id of an event of ours, not {short(text)!r}", "Last-Event-ID")
    return int(text)
