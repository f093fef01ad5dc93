"""The audio of a job that is done, as a file: its length, its tag, and any part of it, in every format."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from typing import Final
from zlib import crc32

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import EngineFailed
from bus.jobs import lookup
from bus.jobs.attach import Attachment
from bus.jobs.status import Status
from bus.subjects import JobKey
from gateway.access.caller import CALLER
from gateway.codecs import WAV, Encoding, Format
from gateway.codecs.encoded_cache import FileKey
from gateway.codecs.format import SAMPLE_BYTES, marks_of, wav_head
from gateway.http.counting import count_request
from gateway.http.headers import JOB_HEADER, MARKED_HEADER, voice_headers
from gateway.http.ranges import Part, is_unchanged, part
from gateway.http.responses import begin
from gateway.http.services import BUFFERS, ENCODED, JOBS
from gateway.jobs.listening import join_stream
from gateway.jobs.pcm_reader import PcmReader, failure
from gateway.jobs.service import Jobs
from gateway.streaming.live import send

#: Seconds of audio that are encoded before the response begins. A GET of a longer file, unless it is cached, begins at
#: once, without its length.
_ENCODE_FIRST_S: Final = 30.0


class AudioFile(msgspec.Struct, frozen=True):
    """The audio of a job that is done, from a frame on, in a format."""

    key: JobKey
    found: Status
    form: Format
    #: Frames of the whole job, and the CRC-32 of its PCM.
    frames: int
    crc32: str
    rate_hz: int
    channels: int
    from_frame: int

    @property
    def frames_left(self) -> int:
        """Frames of the file, at the job's rate."""
        return max(0, self.frames - self.from_frame)

    @property
    def seconds(self) -> float:
        """Playing time, at the format's speed."""
        return self.frames_left / self.rate_hz / self.form.speed

    @property
    def is_plain(self) -> bool:
        """Whether its bytes are those of the log after a head."""
        return self.form.is_raw and not self.form.is_converted(self.rate_hz, self.channels)

    @property
    def expected_bytes(self) -> float:
        """Estimated size."""
        return self.form.expected_bytes(self.frames_left, self.rate_hz, self.channels)

    @property
    def tag(self) -> str:
        """The comment in its head, "" without one."""
        return self.form.tag(self.found.birth.job)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every response with it."""
        media = self.form.media(self.rate_hz, self.channels)
        return {
            JOB_HEADER: self.key.job,
            MARKED_HEADER: marks_of(self.form, self.found.birth.job),
            **voice_headers(self.found.birth.job),
            "Content-Type": self.form.content_type_of(*media),
            "Antiphon-Media": wire.media_type(*media),
            "Cache-Control": "private, no-cache",
        }


async def audio_file(jobs: Jobs, key: JobKey, found: Status, form: Format, from_frame: int) -> AudioFile:
    """The file of an ended job.

    Raises the JobError that it ended with, unless it is done; Gone, LogDamaged, Unreachable.
    """
    assert found.tail is not None
    if found.tail.kind != "done":
        raise failure(found.tail)
    done = wire.decode(wire.Done, found.tail.payload)
    async with jobs.damaged.reported(key):
        media = await lookup.media(jobs.bus, key, found.birth_seq)
    if media is None:
        raise EngineFailed("the job is done and its log does not state its media type")
    return AudioFile(key, found, form, done.frames, done.crc32, *media, from_frame)


async def respond_with_file(request: web.Request, file: AudioFile) -> web.StreamResponse:
    """Respond to GET or HEAD, with the part that `Range` names. Raises RangeRefused; TooMany if it must be encoded."""
    if file.is_plain:
        return await _plain(request, file)
    cache_key = FileKey(file.key, file.crc32, file.frames, file.from_frame, file.form, file.tag)
    cache = request.app[ENCODED]
    cached = cache.get(cache_key)
    if cached is None:
        request.app[JOBS].damaged.check(file.key, file.from_frame, file.frames)
        count_request(request)
    may_keep = file.seconds <= cache.max_s and file.expected_bytes <= cache.max_bytes / 2
    # Otherwise slow clients of many files would together hold more than the cache may.
    may_keep = may_keep and cache.may_send(file.expected_bytes)
    has_time = file.seconds <= _ENCODE_FIRST_S or request.method == "HEAD" or "Range" in request.headers
    if cached is None and not (may_keep and has_time):
        return await _stream(request, file, cache_key if may_keep else None)
    body = cached or await cache.get_or_encode(cache_key, lambda: _encoded(request, file), request[CALLER].owner)
    if cached is None and not body.num_readers and not cache.may_send(len(body.data)):
        return await _stream(request, file, None)  # other responses have filled the cache during the encoding
    headers = {**file.headers, "Accept-Ranges": "bytes", "ETag": body.etag}
    if is_unchanged(request.headers, body.etag):
        return web.Response(status=304, headers=headers)
    wanted, is_part = part(request.headers, len(body.data), body.etag)
    if is_part:
        headers["Content-Range"] = wanted.content_range
    wanted_bytes = memoryview(body.data)[wanted.start : wanted.stop]
    with cache.sending(body):
        return await send(request, web.StreamResponse(status=206 if is_part else 200, headers=headers), wanted_bytes)


async def _encoded(request: web.Request, file: AudioFile) -> AsyncGenerator[bytes]:
    """The encoded audio, piece by piece; a piece may be empty."""
    caller = request[CALLER]
    async with join_stream(request.app[JOBS], file.key, file.found, file.from_frame) as stream:
        encoding = Encoding(file.form, file.rate_hz, file.channels, file.frames_left, caller=caller, tag=file.tag)
        with closing(encoding):
            async with aclosing(aiter(stream)) as pieces:
                async for pcm in pieces:
                    yield await encoding.feed(pcm)
            yield await encoding.finish()


async def _stream(request: web.Request, file: AudioFile, key: FileKey | None) -> web.StreamResponse:
    """Respond with the whole file while it is encoded, without its length; cache it under `key` if there is one.

    Raises TooMany, Overloaded if there is no memory for another encoder.
    """
    response = web.StreamResponse(headers={**file.headers, "Accept-Ranges": "none" if key is None else "bytes"})
    if request.method == "HEAD":
        return web.Response(headers=response.headers)
    cache = request.app[ENCODED]
    claim = cache.claim(key) if key is not None else contextlib.nullcontext(False)
    memory = request.app[BUFFERS].hold(request[CALLER].owner)
    with claim as is_claimed, cache.writer() as writer, memory as buffer:
        await buffer.grow(file.form.encoder_bytes(file.rate_hz, file.channels))
        if not is_claimed:
            writer.drop()
        async with aclosing(_encoded(request, file)) as pieces:
            async for piece in pieces:
                if not response.prepared:
                    await begin(request, response)
                if piece:
                    writer.add(piece)
                    await response.write(piece)
        if key is not None:
            writer.save(key)
    await response.write_eof()
    return response


async def _plain(request: web.Request, file: AudioFile) -> web.StreamResponse:
    """Respond with a file that needs no encoder: any part of it is read from the log."""
    is_wav = file.form.codec == WAV.codec
    whole_head = wav_head(file.rate_hz, file.channels, file.frames_left, file.tag) if is_wav else b""
    head_bytes = len(whole_head)
    etag = f'"{file.crc32}-{file.frames}-{file.from_frame}-{file.form.codec}-{crc32(whole_head):08x}"'
    headers = {**file.headers, "Accept-Ranges": "bytes", "ETag": etag}
    if is_unchanged(request.headers, etag):
        return web.Response(status=304, headers=headers)
    frame_bytes = file.channels * SAMPLE_BYTES
    wanted, is_part = part(request.headers, head_bytes + file.frames_left * frame_bytes, etag)
    if is_part:
        headers["Content-Range"] = wanted.content_range
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    response.content_length = wanted.stop - wanted.start
    first, stop = (max(0, at - head_bytes) // frame_bytes + file.from_frame for at in (wanted.start, wanted.stop - 1))
    request.app[JOBS].damaged.check(file.key, first, stop + 1)
    if request.method == "HEAD":
        await begin(request, response)
        return response
    head = whole_head[wanted.start : wanted.stop]
    samples = Part(
        max(0, wanted.start - head_bytes) + file.from_frame * frame_bytes,
        max(0, wanted.stop - head_bytes) + file.from_frame * frame_bytes,
        file.frames * frame_bytes,
    )
    await _write_file(request, response, file, head, samples)
    return response


async def _write_file(
    request: web.Request,
    response: web.StreamResponse,
    file: AudioFile,
    head: bytes,
    samples: Part,
) -> None:
    """Write `head` and then the bytes `samples` of all PCM. An error leaves the body shorter than its length.

    The response begins with the first samples: an error before them gets a status of its own.
    """
    if samples.stop <= samples.start:
        await begin(request, response)
        await response.write(head)
        await response.write_eof()
        return
    async with aclosing(_samples(request.app[JOBS], file, samples)) as pieces:
        async for pcm in pieces:
            if not response.prepared:
                await begin(request, response)
                await response.write(head)
            await response.write(pcm)
    await response.write_eof()


async def _samples(jobs: Jobs, file: AudioFile, samples: Part) -> AsyncGenerator[bytes]:
    """The bytes `samples` of all PCM, as they are read from the log; a piece may be empty.

    Raises Gone, LogDamaged, NotFound, Unreachable.
    """
    bus, left = jobs.bus, samples.stop - samples.start
    frame_bytes = file.channels * SAMPLE_BYTES
    first, skip = divmod(samples.start, frame_bytes)
    stop = -(-samples.stop // frame_bytes)
    async with jobs.damaged.reported(file.key):
        after_seq = 0
        if first:
            assert file.found.tail is not None
            entry = await lookup.frame(bus, file.key, file.found.birth_seq, file.found.tail.seq, first)
            after_seq = entry.seq - 1 if entry is not None else 0
        reader = PcmReader(first, (file.rate_hz, file.channels), verify=True)
        async with (
            Attachment(bus.connection, bus.logs, file.key, after_seq=after_seq, max_buffer_bytes=0) as attachment,
            aclosing(aiter(attachment)) as batches,
        ):
            async for batch in batches:
                # Damage behind the part that is wanted is none of it.
                fed = reader.feed([entry for entry in batch if entry.kind != "block" or entry.frame < stop])
                if reader.damage is not None:
                    raise reader.damage
                pcm = fed[skip:][:left]
                # `pcm` may be empty: the first block of music is larger than a page of the log.
                skip = max(0, skip - len(fed))
                left -= len(pcm)
                batch.clear()
                yield pcm
                if left <= 0:
                    return
        reader.check_complete()
