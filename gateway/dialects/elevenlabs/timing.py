"""Sound with the time of each character: a stream's marks, and between them a straight line."""

from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from typing import Final

import msgspec
from aiohttp import web

from gateway.codecs import Encoding, Format
from gateway.codecs.wave import SAMPLE_BYTES
from gateway.http.operation import LINES
from gateway.http.responses import begin
from gateway.jobs.listening import AudioStream
from gateway.streaming.live import Headers, head_of

#: Base64 of so many bytes can be joined without padding between.
_BASE64_UNIT_BYTES: Final = 3


class Alignment(msgspec.Struct, frozen=True):
    """Seconds from the beginning of the sound; all three of one length."""

    characters: list[str]
    character_start_times_seconds: list[float]
    character_end_times_seconds: list[float]

    def extend(self, other: "Alignment") -> None:
        self.characters.extend(other.characters)
        self.character_start_times_seconds.extend(other.character_start_times_seconds)
        self.character_end_times_seconds.extend(other.character_end_times_seconds)


class Chunk(msgspec.Struct, frozen=True):
    """Sound, encoded, and the characters that are certain by then. The second alignment is the first: nothing here
    speaks another text than it was given.
    """

    audio_base64: str
    alignment: Alignment | None
    normalized_alignment: Alignment | None


class Characters:
    """Marks in, alignments out: each character of the text once, in order."""

    def __init__(self, text: str) -> None:
        self._text = text
        #: The first character not yet told, and when it begins.
        self._place, self._at_s = 0, 0.0
        self._is_marked = False

    def take(self, marks: Sequence[tuple[int, float]]) -> Alignment | None:
        """The characters before the last of `marks`, (position in the text, seconds); None if there is none.

        A mark that goes back is of no use to a reader who goes on, and is left out.
        """
        told = Alignment([], [], [])
        for place, at_s in marks:
            self._is_marked = True
            if self._place <= place <= len(self._text) and at_s >= self._at_s:
                self._up_to(place, at_s, told)
        return told if told.characters else None

    def rest(self, end_s: float) -> Alignment | None:
        """What is left; None too if there never was a mark."""
        told = Alignment([], [], [])
        if self._is_marked:
            self._up_to(len(self._text), max(end_s, self._at_s), told)
        return told if told.characters else None

    def _up_to(self, place: int, at_s: float, told: Alignment) -> None:
        start, start_s = self._place, self._at_s
        self._place, self._at_s = place, at_s
        count = place - start
        times = [round(start_s + (at_s - start_s) * n / count, 3) for n in range(count + 1)] if count else [at_s]
        told.extend(Alignment(list(self._text[start:place]), times[:-1], times[1:]))


async def timed(stream: AudioStream, form: Format, text: str) -> AsyncGenerator[tuple[bytes, Alignment | None]]:
    """Yield encoded sound and the characters that are certain by then; either may be empty. Raises as `stream` does."""
    characters = Characters(text)
    async with aclosing(aiter(stream)) as pieces:
        pcm = await anext(pieces)
        rate_hz, channels = stream.media
        heard_hz, frames = rate_hz * form.speed, 0
        with closing(Encoding(form, rate_hz, channels)) as encoding:
            while True:
                frames += len(pcm) // (channels * SAMPLE_BYTES)
                told = characters.take([(mark.start, mark.frame / heard_hz) for mark in stream.marks])
                data = await encoding.feed(pcm)
                if stream.is_whole:
                    rest = characters.rest(frames / heard_hz)
                    if told is not None and rest is not None:
                        told.extend(rest)
                    yield data + await encoding.finish(), told if told is not None else rest
                    return
                yield data, told
                pcm = await anext(pieces)


async def answer_lines(
    request: web.Request, stream: AudioStream, form: Format, text: str, headers: Headers
) -> web.StreamResponse:
    """A JSON object a line, each of some sound or some characters or both."""
    response: web.StreamResponse | None = None
    async with aclosing(timed(stream, form, text)) as pieces:
        async for data, told in pieces:
            if response is None:
                response = await _begun(request, stream, form, headers, LINES[0])
            if data or told is not None:
                line = Chunk(b64encode(data).decode(), told, told)
                await response.write(msgspec.json.encode(line) + b"\n")
    assert response is not None
    await response.write_eof()
    return response


async def answer_whole(
    request: web.Request, stream: AudioStream, form: Format, text: str, headers: Headers
) -> web.StreamResponse:
    """One JSON object. Its sound leaves as it is made: an hour of it is never in memory."""
    response: web.StreamResponse | None = None
    heard, left = Alignment([], [], []), b""
    async with aclosing(timed(stream, form, text)) as pieces:
        async for data, told in pieces:
            if response is None:
                response = await _begun(request, stream, form, headers, "application/json")
                await response.write(b'{"audio_base64":"')
            if told is not None:
                heard.extend(told)
            left += data
            cut = len(left) - len(left) % _BASE64_UNIT_BYTES
            if cut:
                await response.write(b64encode(left[:cut]))
                left = left[cut:]
    assert response is not None
    alignment = msgspec.json.encode(heard if heard.characters else None)
    await response.write_eof(b'%b","alignment":%b,"normalized_alignment":%b}' % (b64encode(left), alignment, alignment))
    return response


async def _begun(
    request: web.Request, stream: AudioStream, form: Format, headers: Headers, content_type: str
) -> web.StreamResponse:
    head = head_of(stream, form, form.media(*stream.media), headers)
    response = web.StreamResponse(headers=head | {"Content-Type": content_type})
    await begin(request, response)
    return response
