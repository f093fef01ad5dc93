"""A job's sound as the body of a response: from the first block on, as it comes, complete or visibly cut short.

The status line waits for the first block, so whatever fails before it is an error with a status of its own. What fails
later cuts the body short: the connection closes without the end that HTTP asks for, and the client knows.
"""

import asyncio
import socket
import struct
from contextlib import aclosing, closing
from typing import Final

from aiohttp import web

from bus import wire
from gateway.codecs import Encoding, Format
from gateway.problems import JOB_HEADER
from gateway.sound import Sound, hear
from gateway.state import JOB, Gateway, begin

#: A body that was cut short is still flushed to its client for so long.
_FLUSH_S: Final = 5.0
#: SO_LINGER on, of no seconds: closing the socket resets its connection.
_RESET: Final = struct.pack("ii", 1, 0)


def sound_headers(job_id: str, form: Format) -> dict[str, str]:
    return {
        JOB_HEADER: job_id,
        "Content-Type": form.content_type,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "X-Request-Id": job_id,
    }


async def ask(request: web.Request, gateway: Gateway, job: wire.Job, form: Format) -> web.StreamResponse:
    """Put a complete job on the bus and answer with its sound. Hanging up is leaving."""
    request[JOB] = job.id
    async with hear(gateway, job) as sound:
        return await play(request, sound, form)


async def play(request: web.Request, sound: Sound, form: Format) -> web.StreamResponse:
    """Answer with `sound`, until the job's end."""
    response = web.StreamResponse(headers=sound_headers(sound.name.job, form))
    async with aclosing(aiter(sound)) as pieces:
        pcm = await anext(pieces)
        rate_hz, channels = sound.media
        response.headers["Antiphon-Media"] = wire.media_type(rate_hz, channels)
        with closing(Encoding(form, rate_hz, channels)) as encoding:
            data = await encoding.feed(pcm)
            await begin(request, response)
            while not sound.is_whole:
                if data:
                    await response.write(data)
                data = await encoding.feed(await anext(pieces))
            await response.write_eof(data + await encoding.finish())
    return response


def cut_short(request: web.Request) -> None:
    """End the connection so that no client can take the body for a whole one."""
    transport = request.transport
    if transport is None:
        return
    if request.version < (1, 1):
        # Without chunks an orderly close would look like the end: the client must see a reset.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
        return
    transport.close()  # flushes what was good, but writes no last chunk
    asyncio.get_running_loop().call_later(_FLUSH_S, transport.abort)
