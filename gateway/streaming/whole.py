"""A job's audio in one piece, for clients that do not stream: with its length, and a status for every failure.

It is held in the memory that clients share (`Buffers`). What does not fit there is streamed.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing
from typing import Final

from aiohttp import web

from bus import wire
from gateway.access.caller import CALLER, Caller
from gateway.codecs import Encoding, Format
from gateway.codecs.format import SAMPLE_BYTES
from gateway.http.responses import begin
from gateway.http.services import BUFFERS
from gateway.jobs.listening import AudioStream
from gateway.limits.buffers import Buffer
from gateway.streaming.live import Headers, stream_for, stream_headers, write_out

#: Bytes of PCM that are collected first, six minutes at 24 kHz mono; longer audio is streamed.
MAX_HELD_BYTES: Final = 16 << 20
#: Bytes of the body that is made of them: at a higher rate it may be larger.
_MAX_BODY_BYTES: Final = 2 * MAX_HELD_BYTES


async def respond_whole(request: web.Request, job: wire.Job, form: Format, headers: Headers) -> web.StreamResponse:
    """Accept a validated job; respond once all its audio is here, or as much as may be held of it.

    A client that hangs up leaves.
    """
    caller = request[CALLER]
    async with stream_for(request, job) as stream, aclosing(aiter(stream)) as pieces:
        with request.app[BUFFERS].hold(caller.owner) as buffer:
            pcm: deque[bytes] = deque()
            await _collect(pieces, MAX_HELD_BYTES, buffer, pcm)
            with closing(encoding_for(stream, form, sum(map(len, pcm)), caller)) as encoding:
                response = web.StreamResponse(headers=stream_headers(stream, form, encoding.media, headers))
                body = encoded(pcm, pieces, encoding, buffer)
                ready: deque[bytes] = deque()
                if stream.is_whole and await _collect(body, _MAX_BODY_BYTES, buffer, ready):
                    response.content_length = sum(map(len, ready))
                await begin(request, response)
                await write_held(response, ready, buffer)
                async for data in body:
                    await response.write(data)
            await response.write_eof()
            return response


async def _collect(pieces: AsyncIterator[bytes], max_bytes: int, buffer: Buffer, held: deque[bytes]) -> bool:
    """Append to `held` up to the piece that `buffer` has no room for, or that exceeds `max_bytes`; whether none did.

    Raises as `pieces` does.
    """
    async for data in pieces:
        held.append(data)
        if not buffer.add(len(data)) or buffer.num_bytes > max_bytes:
            return False
    return True


async def encoded(
    held: deque[bytes], rest: AsyncIterator[bytes], encoding: Encoding, buffer: Buffer
) -> AsyncGenerator[bytes]:
    """Encode the PCM that is held, which leaves the buffer, and then the rest; the bytes of the body in pieces.

    Raises as `rest` does.
    """
    while held:
        pcm = held.popleft()
        data = await encoding.feed(pcm)
        buffer.shrink(len(pcm))
        del pcm
        yield data
    async for pcm in rest:
        yield await encoding.feed(pcm)
    yield await encoding.finish()


async def write_held(response: web.StreamResponse, held: deque[bytes], buffer: Buffer) -> None:
    """Write pieces of a body; each leaves the buffer once it is written."""
    while held:
        data = held.popleft()
        await write_out(response, memoryview(data))
        buffer.shrink(len(data))


def encoding_for(stream: AudioStream, form: Format, num_bytes: int, caller: Caller) -> Encoding:
    """The encoder of a stream of which `num_bytes` of PCM are here; if that is all, the file's head has its length.

    Raises EngineFailed.
    """
    rate_hz, channels = stream.media
    num_frames = num_bytes // (channels * SAMPLE_BYTES) if stream.is_whole else None
    return Encoding(form, rate_hz, channels, num_frames, caller=caller, tag=form.tag(stream.job))
