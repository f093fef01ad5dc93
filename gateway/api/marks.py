"""Where in a job's sound its words and sentences begin, as the native API tells it."""

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
from gateway.api.answers import ID
from gateway.http.headers import JOB_HEADER
from gateway.http.operation import Answer, operation
from gateway.http.responses import json_response
from gateway.http.services import JOBS, job_key


class Shown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mark."""

    kind: str
    #: In the job's `input`, in characters (Unicode code points), from 0.
    start: int
    length: int
    #: Of the sound, from 0; and the same in seconds.
    frame: int
    at_s: float
    #: Of a word: those characters.
    text: str = ""


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """All marks of one job."""

    id: str
    state: State
    #: None while no sound is there.
    rate_hz: int | None
    #: Of sound so far.
    frames: int
    #: By frame; of a job that is not done those so far.
    marks: list[Shown]


def shown(mark: wire.Mark, text: str, rate_hz: int) -> Shown:
    """`mark` in a job whose input is `text`."""
    return Shown(
        kind=mark.kind,
        start=mark.start,
        length=mark.length,
        frame=mark.frame,
        at_s=round(mark.frame / rate_hz, 4),
        text=text[mark.start : mark.start + mark.length] if mark.kind == "word" else "",
    )


def rate_of(entry: Entry) -> int | None:
    """Of the sound that begins with `entry`, in Hz; None if it begins none. Raises EngineFailed, Malformed."""
    started = entry.started
    if started is None:
        return None
    return started.pcm_media[0]


@operation(
    "Where in a job's sound its words and sentences begin.",
    parameters=(ID,),
    answers={200: Answer("All marks so far.", Marks)},
)
async def marks(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}/marks`."""
    jobs, key = request.app[JOBS], job_key(request)
    found = await jobs.find(key)
    rate_hz, all_marks = await _read(jobs.bus, key, found)
    answer = Marks(id=key.job, state=found.state, rate_hz=rate_hz, frames=found.position.frame, marks=all_marks)
    return json_response(answer, headers={JOB_HEADER: key.job, "Cache-Control": "no-store"})


async def _read(bus: Bus, key: JobKey, found: Status) -> tuple[int | None, list[Shown]]:
    """The log's rate and marks up to where it was found. Raises Gone, Unreachable, EngineFailed."""
    rate_hz: int | None = None
    told: list[Shown] = []
    if found.tail is None:
        return rate_hz, told
    text, last_seq = found.birth.job.input, found.tail.seq
    async with (
        Attachment(bus.connection, bus.logs, key, max_buffer_bytes=0) as attachment,
        aclosing(aiter(attachment)) as batches,
    ):
        async for batch in batches:
            for entry in batch:
                rate_hz = rate_of(entry) or rate_hz
                if rate_hz is not None and entry.seq <= last_seq:
                    told += (shown(mark, text, rate_hz) for mark in entry.marks)
            if batch[-1].seq >= last_seq:
                break
    return rate_hz, told
