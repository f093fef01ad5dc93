"""A job's sound as the body of a response: from the first block on, as it comes, complete or visibly cut short.

The status line waits for the first block, so whatever fails before it is an error with a status of its own. What fails
later cuts the body short: the connection closes without the end that HTTP asks for, and the client knows.
"""

import asyncio
import socket
import struct
from contextlib import aclosing
from typing import Final

from aiohttp import web

from bus import wire
from bus.attach import Attachment
from bus.entry import Entry
from bus.errors import Cancelled, EngineFailed, Expired, JobError, Malformed, from_code
from bus.interest import Listener
from bus.subjects import LogSubjects
from gateway.codecs import SAMPLE_BYTES, Codec
from gateway.problems import JOB_HEADER
from gateway.state import JOB, Gateway, begin

#: What may wait in this process for one slow reader; the rest waits in its log.
MAX_BUFFER_BYTES: Final = 256 << 10
#: A body that was cut short is still flushed to its client for so long.
_FLUSH_S: Final = 5.0
#: SO_LINGER on, of no seconds: closing the socket resets its connection.
_RESET: Final = struct.pack("ii", 1, 0)


def failure(end: Entry) -> JobError:
    """The error that a terminal entry other than `done` tells. Never raises."""
    try:
        if end.kind == "failed":
            told = wire.decode(wire.Failed, end.payload)
            return from_code(told.code, told.message, told.path)
        why = wire.decode(wire.Ended, end.payload).why
    except Malformed as error:
        return EngineFailed(f"the job ended as {end.kind}, and its last entry cannot be read: {error}")
    return Expired(why) if end.kind == "expired" else Cancelled(why)


class Tape:
    """What one listener has heard: takes entries in their order, gives the PCM that comes next."""

    def __init__(self, from_frame: int = 0, media: tuple[int, int] | None = None) -> None:
        """`from_frame`: the first one wanted. `media`: (rate_hz, channels), if the entry that tells it is not fed."""
        #: The next frame to come.
        self.frame = from_frame
        self.media = media
        self.end: Entry | None = None
        self._frame_bytes = media[1] * SAMPLE_BYTES if media else 0

    def feed(self, batch: list[Entry]) -> bytes:
        """The PCM of `batch` that is new. Raises EngineFailed if it does not fit what came before."""
        parts: list[bytes] = []
        for entry in batch:
            started = entry.started
            if started is not None:
                self._begin(started.media)
            if entry.kind == "block":
                self._block(entry, parts)
            elif entry.is_end:
                self.end = entry
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _begin(self, media: str) -> None:
        try:
            told = wire.parse_media_type(media)
        except Malformed as error:
            raise EngineFailed(f"not PCM: {error}") from error
        if self.media is not None and told != self.media:
            raise EngineFailed(f"the sound changes to {media} at frame {self.frame}")
        self.media = told
        self._frame_bytes = told[1] * SAMPLE_BYTES

    def _block(self, entry: Entry, parts: list[bytes]) -> None:
        if not self._frame_bytes:
            raise EngineFailed("a block came before its media")
        first, pcm = entry.frame, entry.payload
        after = first + len(pcm) // self._frame_bytes
        if after <= self.frame:
            return  # all of it is before what was asked for
        if first > self.frame:
            raise EngineFailed(f"frame {first} came where {self.frame} was due")
        parts.append(pcm[(self.frame - first) * self._frame_bytes :] if first < self.frame else pcm)
        self.frame = after

    def check_complete(self) -> None:
        """Raises what the end says unless it is `done`, and EngineFailed unless every frame was heard."""
        assert self.end is not None
        if self.end.kind != "done":
            raise failure(self.end)
        frames = self.end.position.frame
        if self.frame < frames:
            raise EngineFailed(f"the job has {frames} frames, {self.frame} were heard")


def sound_headers(job_id: str, codec: Codec) -> dict[str, str]:
    return {
        JOB_HEADER: job_id,
        "Content-Type": codec.content_type,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "X-Request-Id": job_id,
    }


async def ask(request: web.Request, gateway: Gateway, job: wire.Job, codec: Codec) -> web.StreamResponse:
    """Put a complete job on the bus and answer with its sound. Hanging up is leaving."""
    request[JOB] = job.id
    bus = gateway.bus
    name = bus.subjects.log(job.tenant, job.id)
    # The order is what makes it whole: a listener before there is work, ears before there is sound.
    async with gateway.interest.listen(name, run_on=job.run_on is not False, linger_s=job.linger_s) as listener:
        attachment = Attachment(bus.connection, bus.logs, name, is_new=True, max_buffer_bytes=MAX_BUFFER_BYTES)
        async with attachment:
            accepted = await gateway.accept(name, job, listener)
            if not accepted.is_new:
                attachment.read_back()
            return await play(request, gateway, name, attachment, listener, codec, Tape())


async def play(
    request: web.Request,
    gateway: Gateway,
    name: LogSubjects,
    attachment: Attachment,
    listener: Listener,
    codec: Codec,
    tape: Tape,
) -> web.StreamResponse:
    """Answer with what `attachment` brings, until the job's end."""
    response = web.StreamResponse(headers=sound_headers(name.job, codec))
    async with aclosing(aiter(attachment)) as batches:
        async for batch in batches:
            pcm = tape.feed(batch)
            if tape.end is not None:
                listener.heard_the_end = True
                gateway.deadlines.forget(name)
                await _last(request, response, codec, tape, pcm)
            elif pcm:
                if not response.prepared:
                    pcm = await _begin(request, response, codec, tape, pcm)
                await response.write(pcm)
    return response


async def _last(request: web.Request, response: web.StreamResponse, codec: Codec, tape: Tape, pcm: bytes) -> None:
    """Write the last PCM and the end, if it is a good one. Raises what it was otherwise."""
    try:
        tape.check_complete()
    except JobError:
        if response.prepared and pcm:
            await response.write(pcm)
        raise
    if not response.prepared:
        pcm = await _begin(request, response, codec, tape, pcm)
    await response.write_eof(pcm)


async def _begin(request: web.Request, response: web.StreamResponse, codec: Codec, tape: Tape, pcm: bytes) -> bytes:
    """Make the head of the response ready; it leaves together with the first bytes of sound, which are returned."""
    if tape.media is None:
        raise EngineFailed("the job is done and never told its media")
    rate_hz, channels = tape.media
    response.headers["Antiphon-Media"] = wire.media_type(rate_hz, channels)
    await begin(request, response)
    return codec.head(rate_hz, channels) + pcm


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
