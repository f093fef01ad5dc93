"""A job's sound as the body of a response: from the first block on, as it comes, complete or visibly cut short.

The status line waits for the first block, so whatever fails before it is an error with a status of its own. What fails
later cuts the body short: the connection closes without the end that HTTP asks for, and the client knows.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, closing
from typing import Final

from aiohttp import web

from bus import wire
from gateway.codecs import Encoding, Format
from gateway.jobs import find
from gateway.problems import JOB_HEADER
from gateway.reuse import CACHE_HEADER, wants_fresh
from gateway.sound.sound import Sound, hear
from gateway.state import GATEWAY, JOB, Gateway, begin

#: A body that was cut short is still flushed to its client for so long.
_FLUSH_S: Final = 5.0
#: SO_LINGER on, of no seconds: closing the socket resets its connection.
_RESET: Final = struct.pack("ii", 1, 0)
#: By the id of the job that is heard.
Headers = Callable[[str], dict[str, str]]


def sound_headers(job_id: str, form: Format) -> dict[str, str]:
    return {
        JOB_HEADER: job_id,
        "Content-Type": form.content_type,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "X-Request-Id": job_id,
    }


@asynccontextmanager
async def heard(request: web.Request, job: wire.Job, *, own: bool = False) -> AsyncIterator[Sound]:
    """`hear`, for a request: whatever answers it bears the id of the job that is heard."""
    request[JOB] = job.id
    async with hear(request.app[GATEWAY], job, fresh=wants_fresh(request), own=own) as sound:
        request[JOB] = sound.name.job
        yield sound


async def ask(request: web.Request, job: wire.Job, form: Format, headers: Headers | None = None) -> web.StreamResponse:
    """Put a complete job on the bus and answer with its sound. Hanging up is leaving. `headers`: a door's own."""
    async with heard(request, job) as sound:
        recorded = await _recorded(request.app[GATEWAY], sound, form, headers)
        return recorded or await play(request, sound, form, headers)


async def _recorded(gateway: Gateway, sound: Sound, form: Format, headers: Headers | None) -> web.Response | None:
    """The answer that an equal request got, if it is still there."""
    done = sound.finished
    data = None if done is None else gateway.recordings.kept(sound.name, done, form)
    media = None if data is None else await find.media(gateway.bus, sound.name, 0)
    if media is None:
        return None
    return web.Response(body=data, headers=head_of(sound, form, form.media(*media), headers))


def head_of(sound: Sound, form: Format, media: tuple[int, int], headers: Headers | None) -> dict[str, str]:
    """Of an answer whose first piece is there. `media`: Hz and channels of what the client will decode."""
    head = sound_headers(sound.name.job, form) | (headers(sound.name.job) if headers else {})
    head["Antiphon-Media"] = wire.media_type(*media)
    if sound.reused is not None:
        head[CACHE_HEADER] = sound.reused
    return head


async def play(request: web.Request, sound: Sound, form: Format, headers: Headers | None = None) -> web.StreamResponse:
    """Answer with `sound`, until the job's end."""
    recordings = request.app[GATEWAY].recordings
    async with aclosing(aiter(sound)) as pieces:
        pcm = await anext(pieces)
        with closing(Encoding(form, *sound.media)) as encoding, recordings.recording(form) as recording:
            if sound.reused is None:
                recording.drop()
            response = web.StreamResponse(headers=head_of(sound, form, encoding.media, headers))
            data = await encoding.feed(pcm)
            await begin(request, response)
            while not sound.is_whole:
                if data:
                    recording.add(data)
                    await response.write(data)
                data = await encoding.feed(await anext(pieces))
            data += await encoding.finish()
            recording.add(data)
            recording.keep(sound.name, sound.done, form)
            await response.write_eof(data)
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
