"""A job's log as server-sent events: every entry, but of blocks only their marks; and the place in the queue."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import BusError, Invalid, LogDamaged
from bus.jobs import lookup
from bus.jobs.attach import Attachment
from bus.jobs.entry import STARTED, Entry
from bus.jobs.status import Status
from bus.params import short
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from gateway.api.answers import ID, LINK_TOKEN
from gateway.api.marks import rate_of, shown_mark
from gateway.http import sse
from gateway.http.headers import JOB_HEADER
from gateway.http.operation import EVENTS, Answer, Parameter, operation
from gateway.http.requests import Requests
from gateway.http.responses import begin, cut_short
from gateway.http.services import JOBS, REQUESTS, job_key
from gateway.jobs.damaged_logs import Continuity
from gateway.jobs.queue_position import QueuePosition
from gateway.jobs.service import MAX_BUFFER_BYTES, Jobs
from gateway.jobs.view import when

log = logger(__name__)

_MAX_SEQ: Final = 2**63 - 1
#: Seconds without an event after which a comment is sent, so that no proxy closes the connection.
_KEEP_ALIVE_S: Final = 15.0
#: Seconds between looks at the queue.
_QUEUE_S: Final = 2.0
_HEADERS: Final = {
    "Content-Type": sse.CONTENT_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


@operation(
    "Follow a job's log, without the audio, as server-sent events.",
    parameters=(
        ID,
        LINK_TOKEN,
        Parameter("Last-Event-ID", Annotated[int, Meta(ge=0, le=_MAX_SEQ)], "Resume after this event.", where="header"),
    ),
    answers={
        200: Answer("An event for each entry.", media=EVENTS, kind=dict[str, Any]),
        204: Answer("No event follows that one."),
    },
    key_in="events_link",
)
async def events(request: web.Request) -> web.StreamResponse:
    """`GET /v1/jobs/{id}/events`. `Last-Event-ID` is the stream sequence of the last entry the client has."""
    jobs = request.app[JOBS]
    key = job_key(request)
    after_seq = _last_event_id(request)
    found = await jobs.find(key)
    if found.is_ended and found.tail is not None and after_seq >= found.tail.seq:
        return web.Response(status=204, headers={JOB_HEADER: key.job})  # an EventSource does not reconnect then
    response = web.StreamResponse(headers={**_HEADERS, JOB_HEADER: key.job})
    await begin(request, response)
    head = b"retry: 1000\n\n"
    if after_seq < found.birth_seq:
        head += _accepted(found)
        after_seq = 0
    await response.write(head)
    log_events = LogEvents(jobs, key, found, response)
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = (
                tasks.create_task(log_events.write_queue_positions()),
                tasks.create_task(_raise_at_stop(request.app[REQUESTS])),
            )
            await log_events.write_entries(after_seq)
            for task in beside:
                task.cancel()
    except* _Stopping:
        log.debug("stream.abandoned", job=key.job, tenant=key.tenant, error="this gateway stops")
    except* ConnectionError as error:
        log.debug("stream.abandoned", job=key.job, tenant=key.tenant, error=str(error.exceptions[0]))
    except* BusError as error:
        log.warning("stream.cut", job=key.job, tenant=key.tenant, error=str(error.exceptions[0]))
        cut_short(request)
    return response


class _Stopping(Exception):
    """This process stops; the client reconnects to another one."""


async def _raise_at_stop(requests: Requests) -> None:
    await requests.stopping.wait()
    raise _Stopping


class LogEvents:
    """Writes the events of one log to one response."""

    def __init__(self, jobs: Jobs, key: JobKey, found: Status, response: web.StreamResponse) -> None:
        self._jobs = jobs
        self._key = key
        self._birth = found.birth
        self._response = response
        self._birth_seq = found.birth_seq
        self._rate_hz = 0
        self._continuity = Continuity(from_start=False)
        self._is_queued = found.state == "queued"
        self._position: QueuePosition | None = None

    async def write_entries(self, after_seq: int) -> None:
        """Write the events of the entries after that sequence, to the end of the log."""
        bus = self._jobs.bus
        self._continuity = Continuity(from_start=not after_seq)
        attachment = Attachment(
            bus.connection, bus.logs, self._key, after_seq=after_seq, max_buffer_bytes=MAX_BUFFER_BYTES
        )
        async with attachment, aclosing(aiter(attachment)) as batches:
            async for batch in batches:
                self._is_queued = False
                text = b"".join([await self._events_of(entry) for entry in batch])
                if text:
                    await self._response.write(text)

    async def _events_of(self, entry: Entry) -> bytes:
        """The events of one entry: the start of an attempt, and for a block its marks instead of its audio."""
        text = await self._damage_before(entry)
        started = entry.message.header(STARTED)
        if started is not None:
            text += sse.event("started", started.encode(), entry.seq)
            self._rate_hz = rate_of(entry) or self._rate_hz
        if entry.kind == "block":
            marks = entry.marks
            return text + await self._marks(marks, entry.seq) if marks else text
        return text + sse.event(entry.kind, b"{}" if entry.kind == "checkpoint" else entry.payload, entry.seq)

    async def _damage_before(self, entry: Entry) -> bytes:
        """The event `damaged` if frames before this entry are lost: the log goes on after them."""
        try:
            self._continuity.feed(entry)
        except LogDamaged as error:
            actual = await self._jobs.damaged.found(self._key, error)
            lost = {"code": actual.code, "detail": str(actual), "first_frame": error.first, "stop_frame": error.stop}
            return sse.event("damaged", msgspec.json.encode(lost), entry.seq)
        return b""

    async def _marks(self, marks: list[wire.Mark], seq: int) -> bytes:
        if not self._rate_hz:  # a client that resumed: it got the entry with the rate before
            media = await lookup.media(self._jobs.bus, self._key, self._birth_seq)
            if media is None:
                return b""
            self._rate_hz = media[0]
        text = wire.text_of(self._birth.job)
        shown = {"marks": [shown_mark(mark, text, self._rate_hz) for mark in marks]}
        return sse.event("marks", msgspec.json.encode(shown), seq)

    async def write_queue_positions(self, *, every_s: float = _QUEUE_S, keep_alive_s: float = _KEEP_ALIVE_S) -> None:
        """Write the place in the queue when it changes, and a comment after `keep_alive_s`. Until cancelled."""
        loop = asyncio.get_running_loop()
        written_at = loop.time()
        while True:
            text = await self._queue_event()
            if not text and loop.time() - written_at >= keep_alive_s:
                text = b": still here\n\n"
            if text:
                written_at = loop.time()
                await self._response.write(text)
            await asyncio.sleep(every_s)

    async def _queue_event(self) -> bytes:
        """The event of a new place in the queue; empty if there is none."""
        if not self._is_queued:
            return b""
        now = await self._jobs.queue_position(self._birth)
        if now is None or now == self._position or not self._is_queued:
            return b""
        self._position = now
        return sse.event("queue", msgspec.json.encode(now))


def _accepted(found: Status) -> bytes:
    job = found.birth.job
    shown = {
        "id": job.id,
        "model": job.model,
        "version": job.version,
        "lane": job.lane,
        "accepted_at": when(found.birth.accepted_at),
    }
    return sse.event("accepted", msgspec.json.encode(shown), found.birth_seq)


def _last_event_id(request: web.Request) -> int:
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MAX_SEQ):
        raise Invalid(f"Last-Event-ID: must be the id of an event of this API, not {short(text)!r}", "Last-Event-ID")
    return int(text)
