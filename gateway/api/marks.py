"""Marks: where in a job's audio the words and sentences of its input begin."""

from contextlib import aclosing

import msgspec
from aiohttp import web

from bus import wire
from bus.jobs.attach import Attachment
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.jobs.status import Status
from bus.subjects import JobKey
from bus.wire import State
from gateway.api.answers import ID, LINK_TOKEN
from gateway.http.headers import JOB_HEADER
from gateway.http.operation import Answer, operation
from gateway.http.responses import json_response
from gateway.http.services import JOBS, job_key
from gateway.jobs.damaged_logs import Continuity


class ShownMark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mark."""

    kind: str
    #: Place in the job's `input`, or in the texts of its script joined by line breaks: in characters from 0.
    start: int
    length: int
    #: Place in the audio: a frame from 0, and the same in seconds.
    frame: int
    at_s: float
    #: Those characters, for a word.
    text: str = ""


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """All marks of one job."""

    id: str
    state: State
    #: None until there is audio.
    rate_hz: int | None
    #: Frames of audio so far.
    frames: int
    #: Sorted by frame; until the job has ended the marks so far.
    marks: list[ShownMark]


def shown_mark(mark: wire.Mark, text: str, rate_hz: int) -> ShownMark:
    """`mark` of a job whose text is `text`, as shown."""
    return ShownMark(
        kind=mark.kind,
        start=mark.start,
        length=mark.length,
        frame=mark.frame,
        at_s=round(mark.frame / rate_hz, 4),
        text=text[mark.start : mark.start + mark.length] if mark.kind == "word" else "",
    )


def rate_of(entry: Entry) -> int | None:
    """Samples per second of the attempt that begins with `entry`; None if none does. Raises EngineFailed, Malformed."""
    started = entry.started
    if started is None:
        return None
    return started.pcm_media[0]


@operation(
    "Get the marks: where in a job's audio its words and sentences begin.",
    parameters=(ID, LINK_TOKEN),
    answers={200: Answer("All marks so far.", Marks)},
    key_in="events_link",
)
async def marks(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}/marks`."""
    jobs = request.app[JOBS]
    key = job_key(request)
    found = await jobs.find(key)
    async with jobs.damaged.reported(key):
        rate_hz, all_marks = await _read(jobs.bus, key, found)
    answer = Marks(id=key.job, state=found.state, rate_hz=rate_hz, frames=found.position.frame, marks=all_marks)
    return json_response(answer, headers={JOB_HEADER: key.job, "Cache-Control": "no-store"})


async def _read(bus: Bus, key: JobKey, found: Status) -> tuple[int | None, list[ShownMark]]:
    """The rate and the marks up to the entry that was last in `found`.

    Raises Gone, LogDamaged, Unreachable, EngineFailed.
    """
    rate_hz: int | None = None
    all_marks: list[ShownMark] = []
    if found.tail is None:
        return rate_hz, all_marks
    text, last_seq = wire.text_of(found.birth.job), found.tail.seq
    continuity = Continuity(from_start=True)
    async with (
        Attachment(bus.connection, bus.logs, key, max_buffer_bytes=0) as attachment,
        aclosing(aiter(attachment)) as batches,
    ):
        async for batch in batches:
            for entry in batch:
                continuity.feed(entry)
                rate_hz = rate_of(entry) or rate_hz
                if rate_hz is not None and entry.seq <= last_seq:
                    all_marks += (shown_mark(mark, text, rate_hz) for mark in entry.marks)
            if batch[-1].seq >= last_seq:
                break
    return rate_hz, all_marks
