"""A job's sound in one piece, for clients that want no stream: its length is told, and a failure is always a status."""

from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from typing import Final

from aiohttp import web

from bus import wire
from gateway.codecs import Encoding, Format
from gateway.codecs.wave import SAMPLE_BYTES
from gateway.http.gateway import begin
from gateway.jobs.listening import Sound
from gateway.streaming.live import Headers, head_of, heard, send, write_out

#: Of PCM that is held back: six minutes of the usual 24 kHz. What is longer comes as a stream after all.
MAX_HELD_BYTES: Final = 16 << 20


async def answer_whole(request: web.Request, job: wire.Job, form: Format, headers: Headers) -> web.StreamResponse:
    """Put a complete job on the bus and answer once all of it is there, or MAX_HELD_BYTES. Hanging up is leaving."""
    async with heard(request, job) as sound, aclosing(aiter(sound)) as pieces:
        held = await held_back(pieces, MAX_HELD_BYTES)
        with closing(encoding_of(sound, form, len(held))) as encoding:
            head = head_of(sound, form, encoding.media, headers)
            data = await encoding.feed(held)
            del held
            response = web.StreamResponse(headers=head)
            if sound.is_whole:
                data += await encoding.finish()
                return await send(request, response, memoryview(data))
            await begin(request, response)
            await write_out(response, memoryview(data))
            del data
            async for pcm in pieces:
                await response.write(await encoding.feed(pcm))
            await response.write_eof(await encoding.finish())
            return response


async def held_back(pieces: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """PCM up to the end, or up to the first piece with which it is more than `max_bytes`. Raises as `pieces` does."""
    held = bytearray()
    async for pcm in pieces:
        held += pcm
        if len(held) > max_bytes:
            break
    return bytes(held)


def encoding_of(sound: Sound, form: Format, num_bytes: int) -> Encoding:
    """For a sound of which so many bytes were heard: if that is all, its head can tell. Raises EngineFailed."""
    rate_hz, channels = sound.media
    return Encoding(form, rate_hz, channels, num_bytes // (channels * SAMPLE_BYTES) if sound.is_whole else None)
