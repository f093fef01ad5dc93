"""A job's sound by its id: streamed while it runs, a file with ranges once it is done, one block alone."""

from contextlib import aclosing
from typing import Final

from aiohttp import web

from bus import wire
from bus.attach import Attachment
from bus.entry import Entry
from bus.errors import EngineFailed, NotFound, Unreachable
from bus.params import short
from bus.states import Status
from bus.subjects import LogSubjects
from gateway import find
from gateway.codecs import WAV, Format, format_named
from gateway.codecs.wave import SAMPLE_BYTES, wav_head
from gateway.jobs import whole
from gateway.problems import JOB_HEADER, BlockNotYet, NoSuchBlock
from gateway.ranges import Part, is_unchanged, part
from gateway.sound import join
from gateway.state import GATEWAY, Gateway, begin
from gateway.streams import play, sound_headers
from gateway.tape import Tape, failure

_MAX_FRAME: Final = 1 << 48


async def audio(request: web.Request) -> web.StreamResponse:
    """`GET` and `HEAD /v1/jobs/{id}/audio?format=&from_frame=`."""
    gateway = request.app[GATEWAY]
    name = gateway.name(request)
    codec = format_named(request.query.get("format", WAV.codec), "format")
    from_frame = whole(request, "from_frame", 0, _MAX_FRAME) or 0
    found = await gateway.deadlines.look(name)
    if found.is_ended:
        return await _file(request, gateway, name, found, codec, from_frame)
    if request.method == "HEAD":
        return web.Response(headers=sound_headers(name.job, codec))
    async with join(gateway, name, found, from_frame) as sound:
        return await play(request, sound, codec)


async def _file(
    request: web.Request, gateway: Gateway, name: LogSubjects, found: Status, codec: Format, from_frame: int
) -> web.StreamResponse:
    """A finished job. Raises how it ended unless it is done."""
    assert found.tail is not None
    if found.tail.kind != "done":
        raise failure(found.tail)
    done = wire.decode(wire.Done, found.tail.payload)
    media = await find.media(gateway.bus, name, found.birth_seq)
    if media is None:
        raise EngineFailed("the job is done and never told its media")
    rate_hz, channels = media
    frames = max(0, done.frames - from_frame)
    etag = f'"{done.crc32}-{done.frames}-{from_frame}-{codec.codec}"'
    headers = {
        JOB_HEADER: name.job,
        "Content-Type": codec.content_type,
        "Antiphon-Media": wire.media_type(rate_hz, channels),
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "private, no-cache",
    }
    if is_unchanged(request.headers, etag):
        return web.Response(status=304, headers=headers)
    frame_bytes = channels * SAMPLE_BYTES
    whole_head = wav_head(rate_hz, channels, frames) if codec == WAV else b""
    head_bytes = len(whole_head)
    wanted, is_part = part(request.headers, head_bytes + frames * frame_bytes, etag)
    if is_part:
        headers["Content-Range"] = wanted.content_range
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    response.content_length = wanted.stop - wanted.start
    if request.method == "HEAD":
        await begin(request, response)
        return response
    head = whole_head[wanted.start : wanted.stop]
    samples = Part(
        max(0, wanted.start - head_bytes) + from_frame * frame_bytes,
        max(0, wanted.stop - head_bytes) + from_frame * frame_bytes,
        done.frames * frame_bytes,
    )
    await _write_file(request, response, gateway, name, found, head, samples, media)
    return response


async def _write_file(
    request: web.Request,
    response: web.StreamResponse,
    gateway: Gateway,
    name: LogSubjects,
    found: Status,
    head: bytes,
    samples: Part,
    media: tuple[int, int],
) -> None:
    """Write `head` and then the bytes `samples` of all PCM. What goes wrong on the way leaves the body too short."""
    await begin(request, response)
    if head:
        await response.write(head)
    left = samples.stop - samples.start
    if left <= 0:
        await response.write_eof()
        return
    frame_bytes = media[1] * SAMPLE_BYTES
    first, skip = divmod(samples.start, frame_bytes)
    bus, after_seq = gateway.bus, 0
    if first:
        assert found.tail is not None
        entry = await find.frame(bus, name, found.birth_seq, found.tail.seq, first)
        after_seq = entry.seq - 1 if entry is not None else 0
    tape = Tape(first, media)
    async with (
        Attachment(bus.connection, bus.logs, name, after_seq=after_seq, max_buffer_bytes=0) as attachment,
        aclosing(aiter(attachment)) as batches,
    ):
        async for batch in batches:
            pcm = tape.feed(batch)[skip:][:left]
            skip, left = 0, left - len(pcm)
            await response.write(pcm)
            if left <= 0:
                break
    await response.write_eof()


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


async def _block(gateway: Gateway, name: LogSubjects, found: Status, number: int) -> Entry:
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
