"""A job's audio as OpenAI's server-sent events: a `speech.audio.delta` for each piece, then `speech.audio.done`."""

from base64 import b64encode
from contextlib import AsyncExitStack, aclosing, closing
from typing import Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import BusError
from bus.telemetry.logging import logger
from gateway.access.caller import caller
from gateway.api.marks import ShownMark, shown_mark
from gateway.codecs import Encoding, Format
from gateway.dialects.openai.errors import Error, error_of
from gateway.dialects.openai.request import Usage, usage
from gateway.http import sse
from gateway.http.problems import describe_http
from gateway.http.responses import begin, log_context
from gateway.jobs.listening import AudioStream
from gateway.streaming.live import FREE_ENCODER_BYTES, Headers, encoder_memory, stream_for, stream_headers

log = logger(__name__)


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="speech.audio.delta", omit_defaults=True):
    """The next piece of the audio, and the marks in it."""

    #: Base64.
    audio: str
    response_format: str
    marks: list[ShownMark] = []


class Done(msgspec.Struct, frozen=True, tag_field="type", tag="speech.audio.done"):
    """The last event of a complete stream."""

    usage: Usage


class Failed(msgspec.Struct, frozen=True, tag_field="type", tag="speech.audio.error"):
    """The last event of a stream that failed, instead of `speech.audio.done`; vLLM-Omni has it, OpenAI does not."""

    error: Error


Event = Delta | Done | Failed

#: OpenAI's packages send it. Their older versions wrap an event that has a name, since OpenAI's own have none.
_OPENAI_PACKAGE: Final = "X-Stainless-Lang"


async def respond_with_events(
    request: web.Request, job: wire.Job, form: Format, headers: Headers
) -> web.StreamResponse:
    """Accept a validated job and respond with its audio in events. A client that hangs up leaves the job.

    Raises an error that occurs before the first piece; a later one becomes the last event, `speech.audio.error`.
    """
    async with stream_for(request, job) as stream, aclosing(aiter(stream)) as pieces, AsyncExitStack() as memory:
        pcm = await anext(pieces)
        if form.encoder_bytes(*stream.media) > FREE_ENCODER_BYTES:
            await memory.enter_async_context(encoder_memory(request, form, stream.media))
        with closing(Encoding(form, *stream.media, caller=caller(request), tag=form.tag(stream.job))) as encoding:
            response = web.StreamResponse(headers=stream_headers(stream, form, encoding.media, headers))
            response.headers["Content-Type"] = sse.CONTENT_TYPE
            is_named = _OPENAI_PACKAGE not in request.headers
            await begin(request, response)
            try:
                while True:
                    data = await encoding.feed(pcm)
                    if stream.is_whole:
                        break
                    await response.write(_delta(data, form, stream, is_named=is_named))
                    pcm = await anext(pieces)
                data += await encoding.finish()
            except BusError as error:
                log.warning("stream.cut", error=f"{type(error).__name__}: {error}", **log_context(request))
                last = _framed(Failed(error_of(describe_http(error, request))), is_named=is_named)
            else:
                last = _delta(data, form, stream, is_named=is_named)
                last += _framed(Done(usage(stream.job, stream.done)), is_named=is_named)
            await response.write_eof(last)
    return response


def _delta(data: bytes, form: Format, stream: AudioStream, *, is_named: bool) -> bytes:
    """The event of one piece; no bytes if it has neither audio nor marks, as when the codec holds back its input."""
    text = wire.text_of(stream.job) if stream.marks else ""
    marks = [_mark(mark, text, form, stream) for mark in stream.marks]
    if not data and not marks:
        return b""
    return _framed(Delta(audio=b64encode(data).decode(), response_format=form.codec, marks=marks), is_named=is_named)


def _mark(mark: wire.Mark, text: str, form: Format, stream: AudioStream) -> ShownMark:
    """A mark of the job's `text` with its time in the response, which may be played faster than the audio was made."""
    rate_hz = stream.media[0]
    at_s = round(mark.frame / (rate_hz * form.speed), 4)
    return msgspec.structs.replace(shown_mark(mark, text, rate_hz), at_s=at_s)


def _framed(event: Event, *, is_named: bool) -> bytes:
    kind = event.__struct_config__.tag
    assert isinstance(kind, str)
    return sse.event(kind if is_named else "", msgspec.json.encode(event))
