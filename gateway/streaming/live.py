"""A job's sound as the body of a response: from the first block on, as it comes, complete or visibly cut short.

The status line waits for the first block, so whatever fails before it is an error with a status of its own. What fails
later cuts the body short: the connection closes without the end that HTTP asks for, and the client knows.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, closing
from typing import Final

from aiohttp import web

from bus import wire
from bus.jobs import lookup as find
from gateway.codecs import Encoding, Format
from gateway.http.gateway import GATEWAY, JOB, begin
from gateway.http.problems import JOB_HEADER
from gateway.http.slow_clients import reset
from gateway.jobs.cache import CACHE_HEADER, wants_fresh
from gateway.jobs.listening import Sound, hear

#: A body that was cut short is still flushed to its client for so long.
_FLUSH_S: Final = 5.0
#: Of a body that is in memory, what is handed to its connection at once: aiohttp copies that.
_PIECE_BYTES: Final = 32 << 10
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
        return await _played_back(request, sound, form, headers) or await play(request, sound, form, headers)


async def _played_back(
    request: web.Request, sound: Sound, form: Format, headers: Headers | None
) -> web.StreamResponse | None:
    """The answer that an equal request got, if it is still there."""
    gateway, done = request.app[GATEWAY], sound.finished
    rendering = None if done is None else gateway.recordings.kept(sound.name, done, form)
    media = None if rendering is None else await find.media(gateway.bus, sound.name, 0)
    if rendering is None or media is None:
        return None
    with gateway.renderings.lent(rendering):
        response = web.StreamResponse(headers=head_of(sound, form, form.media(*media), headers))
        return await send(request, response, memoryview(rendering.data))


async def send(request: web.Request, response: web.StreamResponse, body: memoryview) -> web.StreamResponse:
    """Answer with a body that is in memory, of which little is copied for a client that reads slowly."""
    response.content_length = len(body)
    await begin(request, response)
    if request.method == "HEAD":
        return response
    await write_out(response, body)
    await response.write_eof()
    return response


async def write_out(response: web.StreamResponse, data: memoryview) -> None:
    """Write what is in memory anyway, little by little."""
    for at in range(0, len(data), _PIECE_BYTES):
        await response.write(data[at : at + _PIECE_BYTES])


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
        with closing(Encoding(form, *sound.media)) as encoding, recordings.recording() as recording:
            if sound.reused is None or not form.is_encoded:
                recording.drop()
            response = web.StreamResponse(headers=head_of(sound, form, encoding.media, headers))
            data = await encoding.feed(pcm)
            del pcm  # it would stay until the end
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
        reset(transport)
        return
    transport.close()  # flushes what was good, but writes no last chunk
    asyncio.get_running_loop().call_later(_FLUSH_S, transport.abort)
