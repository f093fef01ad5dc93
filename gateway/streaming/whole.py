"""A job's audio in one piece, for clients that do not stream: with its length, and a status for every failure."""

from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from typing import Final

from aiohttp import web

from bus import wire
from gateway.access.caller import CALLER, Caller
from gateway.codecs import Encoding, Format
from gateway.codecs.format import SAMPLE_BYTES
from gateway.http.responses import begin
from gateway.jobs.listening import AudioStream
from gateway.streaming.live import Headers, send, stream_for, stream_headers, write_out

#: Bytes of PCM that are collected first, six minutes at 24 kHz mono; longer audio is streamed.
MAX_HELD_BYTES: Final = 16 << 20


async def respond_whole(request: web.Request, job: wire.Job, form: Format, headers: Headers) -> web.StreamResponse:
    """Accept a validated job; respond once all its audio is here, or MAX_HELD_BYTES. A client that hangs up leaves."""
    async with stream_for(request, job) as stream, aclosing(aiter(stream)) as pieces:
        held = await read_up_to(pieces, MAX_HELD_BYTES)
        with closing(encoding_for(stream, form, len(held), request[CALLER])) as encoding:
            head = stream_headers(stream, form, encoding.media, headers)
            data = await encoding.feed(held)
            del held
            response = web.StreamResponse(headers=head)
            if stream.is_whole:
                data += await encoding.finish()
                return await send(request, response, memoryview(data))
            await begin(request, response)
            await write_out(response, memoryview(data))
            del data
            async for pcm in pieces:
                await response.write(await encoding.feed(pcm))
            await response.write_eof(await encoding.finish())
            return response


async def read_up_to(pieces: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """The PCM up to the end, or up to the piece with which it exceeds `max_bytes`. Raises as `pieces` does."""
    held = bytearray()
    async for pcm in pieces:
        held += pcm
        if len(held) > max_bytes:
            break
    return bytes(held)


def encoding_for(stream: AudioStream, form: Format, num_bytes: int, caller: Caller) -> Encoding:
    """The encoder of a stream of which `num_bytes` of PCM are here; if that is all, the file's head has its length.

    Raises EngineFailed.
    """
    rate_hz, channels = stream.media
    num_frames = num_bytes // (channels * SAMPLE_BYTES) if stream.is_whole else None
    return Encoding(form, rate_hz, channels, num_frames, caller=caller)
