"""A job's audio by its id, in any format, and single blocks of it."""

import re
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from bus.errors import Invalid, NotFound, Unreachable
from bus.jobs import lookup
from bus.jobs.entry import Entry
from bus.jobs.status import Status
from bus.params import short
from bus.subjects import JobKey
from gateway.api.answers import ID, LINK_TOKEN
from gateway.codecs import FORMATS, WAV, Format, checked, format_named
from gateway.codecs.format import MAX_RATE_HZ, MAX_SPEED, MIN_RATE_HZ, MIN_SPEED, SAMPLE_BYTES, marks_of, wav_head
from gateway.http.counting import count_request
from gateway.http.headers import JOB_HEADER, MARKED_HEADER, voice_headers
from gateway.http.operation import AUDIO, Answer, Parameter, operation
from gateway.http.problems import BlockNotYet, NoSuchBlock
from gateway.http.query import integer
from gateway.http.services import JOBS, job_key
from gateway.jobs.listening import join_stream
from gateway.jobs.service import Jobs
from gateway.streaming.file import audio_file, respond_with_file
from gateway.streaming.live import audio_headers, send_stream

_MAX_FRAME: Final = 1 << 48
_MAX_NUMBER: Final = 1 << 31
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{0,18})?([eE][+-]?[0-9]{1,2})?")


@operation(
    "Get a job's audio.",
    text="It is streamed while the job runs. Once the job is done it is a file with a length, ranges and a tag; but in "
    "an encoded format a long file is only streamed, and the first response may have no length. A request that needs "
    "an encoder counts against the limit of requests per second.",
    parameters=(
        ID,
        Parameter("format", Annotated[str, Meta(extra_json_schema={"enum": [*FORMATS]})], "Absent: wav."),
        Parameter("rate", Annotated[int, Meta(ge=MIN_RATE_HZ, le=MAX_RATE_HZ)], "Samples per second, converted."),
        Parameter("bitrate", Annotated[int, Meta(ge=6_000, le=320_000)], "Bits per second, of mp3, opus and aac."),
        Parameter(
            "speed", Annotated[float, Meta(ge=MIN_SPEED, le=MAX_SPEED)], "Playing speed, with the pitch unchanged."
        ),
        Parameter(
            "from_frame", Annotated[int, Meta(ge=0, le=_MAX_FRAME)], "The first frame of the job to respond with."
        ),
        LINK_TOKEN,
        Parameter("Range", str, "One range of bytes of a finished job.", where="header"),
        Parameter("If-Range", str, "The tag of the file that the range belongs to.", where="header"),
        Parameter("If-None-Match", str, "Tags of the files that the caller has.", where="header"),
    ),
    answers={
        200: Answer("The whole audio.", media=AUDIO),
        206: Answer("The range.", media=AUDIO),
        304: Answer("The caller has the file."),
    },
    key_in="audio_link",
)
async def audio(request: web.Request) -> web.StreamResponse:
    """`GET` and `HEAD /v1/jobs/{id}/audio?format=&rate=&bitrate=&speed=&from_frame=`."""
    key = job_key(request)
    form = _requested_format(request)
    return await respond_with_audio(request, key, form, integer(request, "from_frame", 0, _MAX_FRAME) or 0)


async def respond_with_audio(
    request: web.Request, key: JobKey, form: Format, from_frame: int = 0
) -> web.StreamResponse:
    """Respond to GET or HEAD with a job's audio in a checked format: streamed while it runs, a file once it is done."""
    jobs = request.app[JOBS]
    found = await jobs.find(key)
    if found.is_ended:
        return await respond_with_file(request, await audio_file(jobs, key, found, form, from_frame))
    if request.method == "HEAD":
        return web.Response(headers=audio_headers(found.birth.job, form) | voice_headers(found.birth.job))
    if not form.is_raw or form.rate_hz or form.speed != 1.0:
        count_request(request)
    async with join_stream(jobs, key, found, from_frame) as stream:
        return await send_stream(request, stream, form)


def _requested_format(request: web.Request) -> Format:
    """The format that the query names. Raises Invalid."""
    text = request.query.get("speed", "1")
    if _NUMBER.fullmatch(text) is None:
        raise Invalid(f"speed: must be a number from {MIN_SPEED} to {MAX_SPEED:g}, not {short(text)!r}", "speed")
    codec = format_named(request.query.get("format", WAV.codec), "format").codec
    rate_hz = integer(request, "rate", 1, _MAX_NUMBER) or 0
    return checked(Format(codec, rate_hz, integer(request, "bitrate", 1, _MAX_NUMBER) or 0, float(text)))


@operation(
    "Get one block of a job's audio, as a WAV file.",
    parameters=(ID, Parameter("n", Annotated[int, Meta(ge=0)], "Counted from 0.", where="path")),
    answers={200: Answer("The block.", media=("audio/wav",))},
)
async def block(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}/blocks/{n}`: one block entry as a WAV file."""
    jobs = request.app[JOBS]
    key = job_key(request)
    text = request.match_info["n"]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise NotFound(f"n: must be the number of a block, not {short(text)!r}")
    found = await jobs.find(key)
    entry = await _block(jobs, key, found, int(text))
    media = await lookup.media(jobs.bus, key, found.birth_seq)
    if media is None:
        raise Unreachable(f"job {key.job!r}: its first entry cannot be read yet")
    rate_hz, channels = media
    frames = len(entry.payload) // (channels * SAMPLE_BYTES)
    headers = {
        JOB_HEADER: key.job,
        MARKED_HEADER: marks_of(WAV, found.birth.job),
        **voice_headers(found.birth.job),
        "Antiphon-Block": str(entry.block),
        "Antiphon-Frame": str(entry.frame),
        "Cache-Control": "private, immutable, max-age=3600",
    }
    body = wav_head(rate_hz, channels, frames, WAV.tag(found.birth.job)) + entry.payload
    return web.Response(body=body, content_type=WAV.content_type, headers=headers)


async def _block(jobs: Jobs, key: JobKey, found: Status, number: int) -> Entry:
    """The entry of block `number`. Raises BlockNotYet, NoSuchBlock, Gone, LogDamaged, Unreachable."""
    blocks = found.position.block
    if number >= blocks or found.tail is None:
        if found.is_ended:
            raise NoSuchBlock(f"n: the job ended as {found.state} with {blocks} blocks, so it has no block {number}")
        raise BlockNotYet(f"n: the job is {found.state} and has {blocks} blocks so far, block {number} may still come")
    async with jobs.damaged.reported(key):
        entry = await lookup.block(jobs.bus, key, found.birth_seq, found.tail.seq, number)
    if entry is None:  # a replica that has not caught up with its leader
        raise Unreachable(f"block {number} of job {key.job!r} cannot be read yet")
    return entry
