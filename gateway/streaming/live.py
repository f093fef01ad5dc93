"""A job's audio as a streamed response body, from the first block on: complete, or visibly cut short.

The head waits for the first block, so an earlier failure gets a status of its own. A later failure cuts the body short:
the connection closes without the last chunk, which HTTP clients report as an error.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, nullcontext
from typing import Final

from aiohttp import hdrs, web

from bus import wire
from bus.jobs import lookup
from gateway.access.caller import CALLER
from gateway.codecs import WAV, Encoding, Format
from gateway.codecs.encoded_cache import StreamKey
from gateway.codecs.format import marks_of
from gateway.http.headers import CACHE_HEADER, JOB_HEADER, MARKED_HEADER, voice_headers, wants_fresh
from gateway.http.responses import JOB, begin
from gateway.http.services import BUFFERS, ENCODED, JOBS
from gateway.jobs.listening import AudioStream, open_stream

#: Bytes of a body in memory that are handed to the connection at a time: aiohttp copies them.
_PIECE_BYTES: Final = 32 << 10
#: An encoder of a live stream takes nothing of the shared memory up to this size: all but FLAC's.
FREE_ENCODER_BYTES: Final = 2 << 20
#: Makes an API's own headers from the id of the job that is streamed.
Headers = Callable[[str], dict[str, str]]


def audio_headers(job: wire.Job, form: Format) -> dict[str, str]:
    """Headers of every response with the audio of a job that may still run."""
    return {
        JOB_HEADER: job.id,
        MARKED_HEADER: marks_of(form, job),
        "Content-Type": form.content_type,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "X-Request-Id": job.id,
    }


@asynccontextmanager
async def stream_for(request: web.Request, job: wire.Job, *, own_id: bool = False) -> AsyncIterator[AudioStream]:
    """`open_stream` for a request: every response to it carries the id of the job that is streamed."""
    request[JOB] = job.id
    fresh = hdrs.CACHE_CONTROL in request.headers and wants_fresh(request)
    async with open_stream(request.app[JOBS], job, fresh=fresh, own_id=own_id) as stream:
        request[JOB] = stream.key.job
        yield stream


async def respond(
    request: web.Request, job: wire.Job, form: Format, headers: Headers | None = None
) -> web.StreamResponse:
    """Accept a validated job and respond with its audio. A client that hangs up leaves. `headers`: the API's own."""
    async with stream_for(request, job) as stream:
        if stream.cache_outcome == "hit":
            cached = await _respond_from_cache(request, stream, form, headers)
            if cached is not None:
                return cached
        return await send_stream(request, stream, form, headers)


async def _respond_from_cache(
    request: web.Request, stream: AudioStream, form: Format, headers: Headers | None
) -> web.StreamResponse | None:
    """Respond with the encoded body that an identical request got; None if it is no longer in memory."""
    cache = request.app[ENCODED]
    done = stream.finished_before
    body = None if done is None else cache.get(StreamKey.of(stream.key, done, form, form.tag(stream.job)))
    media = None if body is None else await lookup.media(request.app[JOBS].bus, stream.key, 0)
    if body is None or media is None:
        return None
    with cache.sending(body):
        response = web.StreamResponse(headers=stream_headers(stream, form, form.media(*media), headers))
        return await send(request, response, memoryview(body.data))


async def send(request: web.Request, response: web.StreamResponse, body: memoryview) -> web.StreamResponse:
    """Respond with a body that is in memory; only a small piece of it is copied at a time, however slow the client."""
    response.content_length = len(body)
    await begin(request, response)
    if request.method == "HEAD":
        return response
    await write_out(response, body)
    await response.write_eof()
    return response


async def write_out(response: web.StreamResponse, data: memoryview) -> None:
    """Write `data` in small pieces."""
    for at in range(0, len(data), _PIECE_BYTES):
        await response.write(data[at : at + _PIECE_BYTES])


def stream_headers(
    stream: AudioStream, form: Format, media: tuple[int, int], headers: Headers | None
) -> dict[str, str]:
    """Headers of a streamed response. `media`: (rate_hz, channels) of the audio as encoded."""
    head = audio_headers(stream.job, form)
    if stream.job.voice:
        head |= voice_headers(stream.job)
    if headers:
        head |= headers(stream.job.id)
    head["Antiphon-Media"] = wire.media_type(*media)
    head["Content-Type"] = form.content_type_of(*media)
    if stream.cache_outcome is not None:
        head[CACHE_HEADER] = stream.cache_outcome
    return head


@asynccontextmanager
async def encoder_memory(request: web.Request, form: Format, media: tuple[int, int]) -> AsyncIterator[None]:
    """Hold the memory of an encoder of `media`, (rate_hz, channels), for the length of the block.

    Raises TooMany, Overloaded if there is none for 10 s.
    """
    with request.app[BUFFERS].hold(request[CALLER].owner) as buffer:
        await buffer.grow(form.encoder_bytes(*media))
        yield


async def send_stream(
    request: web.Request, stream: AudioStream, form: Format, headers: Headers | None = None
) -> web.StreamResponse:
    """Respond with `stream` to the job's end; the encoded body is kept for identical requests.

    Raises TooMany, Overloaded if there is no memory for a large encoder.
    """
    cache = request.app[ENCODED]
    # A body that needs no encoder is made again rather than kept.
    writing = cache.writer() if stream.cache_outcome is not None and form.is_encoded else nullcontext()
    async with aclosing(aiter(stream)) as pieces, AsyncExitStack() as memory:
        pcm = await anext(pieces)
        if form.encoder_bytes(*stream.media) > FREE_ENCODER_BYTES:
            await memory.enter_async_context(encoder_memory(request, form, stream.media))
        # Only a WAV says in its head how long it is.
        num_frames = stream.num_frames if form.codec == WAV.codec else None
        tag = form.tag(stream.job)
        encoding = Encoding(form, *stream.media, num_frames, caller=request[CALLER], tag=tag)
        with closing(encoding), writing as writer:
            response = web.StreamResponse(headers=stream_headers(stream, form, encoding.media, headers))
            data = await encoding.feed(pcm)
            del pcm  # otherwise it stays in memory until the end
            await begin(request, response)
            while not stream.is_whole:
                if data:
                    if writer is not None:
                        writer.add(data)
                    await response.write(data)
                data = await encoding.feed(await anext(pieces))
            data += await encoding.finish()
            # A stream that went on with another run has the tag of the first one: no request looks for that.
            if writer is not None and stream.done.seconds <= cache.max_s:
                writer.add(data)
                writer.save(StreamKey.of(stream.key, stream.done, form, tag))
            await response.write_eof(data)
    return response
