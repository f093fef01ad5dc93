"""Audio with the time of each character: words are timed by the stream's marks, characters by interpolation."""

from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from typing import Final

import msgspec
from aiohttp import web

from gateway.access.caller import CALLER, Caller
from gateway.codecs import Encoding, Format
from gateway.codecs.format import SAMPLE_BYTES
from gateway.http.operation import LINES
from gateway.http.responses import begin
from gateway.jobs.listening import AudioStream
from gateway.streaming.live import Headers, stream_headers

#: The base64 of pieces of a multiple of this length can be joined, since none has padding.
_BASE64_UNIT_BYTES: Final = 3


class Alignment(msgspec.Struct, frozen=True):
    """Characters and their times, in seconds from the beginning of the audio; the three lists have equal length."""

    characters: list[str]
    character_start_times_seconds: list[float]
    character_end_times_seconds: list[float]

    def extend(self, other: "Alignment") -> None:
        """Append the characters of `other`."""
        self.characters.extend(other.characters)
        self.character_start_times_seconds.extend(other.character_start_times_seconds)
        self.character_end_times_seconds.extend(other.character_end_times_seconds)


class Chunk(msgspec.Struct, frozen=True):
    """Encoded audio, and the characters whose times are known so far.

    The two alignments are equal: engines speak the text as it was sent.
    """

    audio_base64: str
    alignment: Alignment | None
    normalized_alignment: Alignment | None


class Characters:
    """Turns marks into alignments; each character of the text is returned once, in order."""

    def __init__(self, text: str) -> None:
        self._text = text
        #: The first character that was not returned yet, and when it begins.
        self._next = 0
        self._next_at_s = 0.0
        self._is_marked = False

    def take(self, marks: Sequence[tuple[int, float]]) -> Alignment | None:
        """The characters before the last of `marks`, (position in the text, seconds); None if there are none.

        A mark that goes back in the text or in time is ignored: its characters have been returned.
        """
        alignment = Alignment([], [], [])
        for place, at_s in marks:
            self._is_marked = True
            if self._next <= place <= len(self._text) and at_s >= self._next_at_s:
                self._advance(place, at_s, alignment)
        return alignment if alignment.characters else None

    def rest(self, end_s: float) -> Alignment | None:
        """The remaining characters, which end at `end_s`; None if there are none or there never was a mark."""
        alignment = Alignment([], [], [])
        if self._is_marked:
            self._advance(len(self._text), max(end_s, self._next_at_s), alignment)
        return alignment if alignment.characters else None

    def _advance(self, place: int, at_s: float, alignment: Alignment) -> None:
        """Append the characters before `place`, of equal length, the last of which ends at `at_s`."""
        start = self._next
        start_s = self._next_at_s
        self._next = place
        self._next_at_s = at_s
        count = place - start
        times = [round(start_s + (at_s - start_s) * n / count, 3) for n in range(count + 1)] if count else [at_s]
        alignment.extend(Alignment(list(self._text[start:place]), times[:-1], times[1:]))


async def timed(
    stream: AudioStream, form: Format, text: str, caller: Caller
) -> AsyncGenerator[tuple[bytes, Alignment | None]]:
    """Yield encoded audio and the characters whose times are known by then; either may be empty.

    Raises as `stream` does.
    """
    characters = Characters(text)
    async with aclosing(aiter(stream)) as pieces:
        pcm = await anext(pieces)
        rate_hz, channels = stream.media
        played_hz = rate_hz * form.speed
        frames = 0
        with closing(Encoding(form, rate_hz, channels, caller=caller, tag=form.tag(stream.job))) as encoding:
            while True:
                frames += len(pcm) // (channels * SAMPLE_BYTES)
                alignment = characters.take([(mark.start, mark.frame / played_hz) for mark in stream.marks])
                data = await encoding.feed(pcm)
                if stream.is_whole:
                    alignment = joined(alignment, characters.rest(frames / played_hz))
                    yield data + await encoding.finish(), alignment
                    return
                yield data, alignment
                pcm = await anext(pieces)


def joined(first: Alignment | None, second: Alignment | None) -> Alignment | None:
    """Both alignments in one, which is `first` extended if there is a `first`."""
    if first is None or second is None:
        return second if first is None else first
    first.extend(second)
    return first


async def respond_with_lines(
    request: web.Request, stream: AudioStream, form: Format, text: str, headers: Headers
) -> web.StreamResponse:
    """Respond with a line of JSON, a `Chunk`, for each piece of audio or alignment."""
    response: web.StreamResponse | None = None
    async with aclosing(timed(stream, form, text, request[CALLER])) as pieces:
        async for data, alignment in pieces:
            if response is None:
                response = await _begun(request, stream, form, headers, LINES[0])
            if data or alignment is not None:
                line = Chunk(b64encode(data).decode(), alignment, alignment)
                await response.write(msgspec.json.encode(line) + b"\n")
    assert response is not None
    await response.write_eof()
    return response


async def respond_with_object(
    request: web.Request, stream: AudioStream, form: Format, text: str, headers: Headers
) -> web.StreamResponse:
    """Respond with one `Chunk`. Its audio is written as it is made, so that an hour of it is never in memory."""
    response: web.StreamResponse | None = None
    whole = Alignment([], [], [])
    unsent = b""
    async with aclosing(timed(stream, form, text, request[CALLER])) as pieces:
        async for data, alignment in pieces:
            if response is None:
                response = await _begun(request, stream, form, headers, "application/json")
                await response.write(b'{"audio_base64":"')
            if alignment is not None:
                whole.extend(alignment)
            unsent += data
            cut = len(unsent) - len(unsent) % _BASE64_UNIT_BYTES
            if cut:
                await response.write(b64encode(unsent[:cut]))
                unsent = unsent[cut:]
    assert response is not None
    encoded = msgspec.json.encode(whole if whole.characters else None)
    await response.write_eof(b'%b","alignment":%b,"normalized_alignment":%b}' % (b64encode(unsent), encoded, encoded))
    return response


async def _begun(
    request: web.Request, stream: AudioStream, form: Format, headers: Headers, content_type: str
) -> web.StreamResponse:
    head = stream_headers(stream, form, form.media(*stream.media), headers)
    response = web.StreamResponse(headers=head | {"Content-Type": content_type})
    await begin(request, response)
    return response
