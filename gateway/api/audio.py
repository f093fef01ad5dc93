"""A job's sound by its id, in any format, and one block alone."""

import re
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from bus.errors import Invalid, NotFound, Unreachable
from bus.jobs import lookup as find
from bus.jobs.entry import Entry
from bus.jobs.status import Status
from bus.params import short
from bus.subjects import JobKey
from gateway.api.answers import ID
from gateway.api.jobs import whole
from gateway.codecs import WAV, CodecName, Format, checked, format_named
from gateway.codecs.format import MAX_RATE_HZ, MAX_SPEED, MIN_RATE_HZ, MIN_SPEED
from gateway.codecs.wave import SAMPLE_BYTES, wav_head
from gateway.http.gateway import GATEWAY, Gateway
from gateway.http.operation import SOUND, Answer, Parameter, operation
from gateway.http.problems import JOB_HEADER, BlockNotYet, NoSuchBlock
from gateway.jobs.listening import join
from gateway.streaming.file import answer, finished
from gateway.streaming.live import play, sound_headers

_MAX_FRAME: Final = 1 << 48
_MAX_NUMBER: Final = 1 << 31
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{0,18})?([eE][+-]?[0-9]{1,2})?")


@operation(
    "A job's sound.",
    text="It streams while the job runs. Once it is done it is a file with a length, ranges and a tag; in formats that "
    "are encoded a long one is only streamed, and one that nobody asked for before may come without its length.",
    parameters=(
        ID,
        Parameter("format", CodecName, "Absent: wav."),
        Parameter("rate", Annotated[int, Meta(ge=MIN_RATE_HZ, le=MAX_RATE_HZ)], "Samples per second, converted."),
        Parameter("bitrate", Annotated[int, Meta(ge=6_000, le=320_000)], "Bits per second, of mp3, opus and aac."),
        Parameter("speed", Annotated[float, Meta(ge=MIN_SPEED, le=MAX_SPEED)], "Of playing, with the pitch unchanged."),
        Parameter(
            "from_frame", Annotated[int, Meta(ge=0, le=_MAX_FRAME)], "The first of the job's frames to be heard."
        ),
        Parameter("Range", str, "One range of bytes of a finished job.", where="header"),
        Parameter("If-Range", str, "The tag of the file that the range is of.", where="header"),
        Parameter("If-None-Match", str, "Tags of what the caller has.", where="header"),
    ),
    answers={
        200: Answer("The whole.", media=SOUND),
        206: Answer("The range.", media=SOUND),
        304: Answer("The caller has it."),
    },
)
async def audio(request: web.Request) -> web.StreamResponse:
    """`GET` and `HEAD /v1/jobs/{id}/audio?format=&rate=&bitrate=&speed=&from_frame=`."""
    gateway = request.app[GATEWAY]
    name = gateway.name(request)
    form = _asked_format(request)
    return await sound_of(request, gateway, name, form, whole(request, "from_frame", 0, _MAX_FRAME) or 0)


async def sound_of(
    request: web.Request, gateway: Gateway, name: JobKey, form: Format, from_frame: int = 0
) -> web.StreamResponse:
    """Answer a GET or HEAD with a job's sound in a checked format: a file once it is done, as it comes before."""
    found = await gateway.deadlines.look(name)
    if found.is_ended:
        return await answer(request, gateway, await finished(gateway, name, found, form, from_frame))
    if request.method == "HEAD":
        return web.Response(headers=sound_headers(name.job, form))
    async with join(gateway, name, found, from_frame) as sound:
        return await play(request, sound, form)


def _asked_format(request: web.Request) -> Format:
    """Raises Invalid."""
    text = request.query.get("speed", "1")
    if _NUMBER.fullmatch(text) is None:
        raise Invalid(f"speed: must be a number from {MIN_SPEED} to {MAX_SPEED:g}, not {short(text)!r}", "speed")
    codec = format_named(request.query.get("format", WAV.codec), "format").codec
    rate_hz = whole(request, "rate", 1, _MAX_NUMBER) or 0
    return checked(Format(codec, rate_hz, whole(request, "bitrate", 1, _MAX_NUMBER) or 0, float(text)))


@operation(
    "One block of a job's sound, as a WAV of its own.",
    parameters=(ID, Parameter("n", Annotated[int, Meta(ge=0)], "Counted from 0.", where="path")),
    answers={200: Answer("The block.", media=("audio/wav",))},
)
async def block(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}/blocks/{n}`: one block entry as a WAV of its own."""
    gateway = request.app[GATEWAY]
    name = gateway.name(request)
    text = request.match_info["n"]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise NotFound(f"n: must be the number of a block, not {short(text)!r}")
    found = await gateway.deadlines.look(name)
    entry = await _block(gateway, name, found, int(text))
    media = await find.media(gateway.bus, name, found.birth_seq)
    if media is None:
        raise Unreachable(f"job {name.job!r}: its beginning cannot be read yet")
    rate_hz, channels = media
    frames = len(entry.payload) // (channels * SAMPLE_BYTES)
    headers = {
        JOB_HEADER: name.job,
        "Antiphon-Block": str(entry.block),
        "Antiphon-Frame": str(entry.frame),
        "Cache-Control": "private, immutable, max-age=3600",
    }
    body = wav_head(rate_hz, channels, frames) + entry.payload
    return web.Response(body=body, content_type=WAV.content_type, headers=headers)


async def _block(gateway: Gateway, name: JobKey, found: Status, number: int) -> Entry:
    """Raises BlockNotYet, NoSuchBlock, Gone."""
    blocks = found.position.block
    if number >= blocks or found.tail is None:
        if found.is_ended:
            raise NoSuchBlock(f"n: the job ended as {found.state} with {blocks} blocks, and {number} was asked for")
        raise BlockNotYet(f"n: the job is {found.state} and has {blocks} blocks so far, and {number} was asked for")
    entry = await find.block(gateway.bus, name, found.birth_seq, found.tail.seq, number)
    if entry is None:  # a replica that has not caught up with its leader
        raise Unreachable(f"block {number} of job {name.job!r} cannot be read yet")
    return entry
