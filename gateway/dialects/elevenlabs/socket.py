"""ElevenLabs' WebSocket `/v1/text-to-speech/{voice_id}/stream-input`: text in as it is written, audio out.

A generation of theirs is a job here. Text is collected until `chunk_length_schedule` or the client starts a generation.
An error is sent in their terms, and then the socket is closed.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from bus import wire
from bus.errors import BusError, Forbidden, Invalid, Malformed, TooMany, Unauthorized, UnknownModel
from gateway.access.caller import caller
from gateway.codecs import Encoding
from gateway.dialects.elevenlabs.errors import LIMITS, OF_POOL, ErrorResponse, refuser
from gateway.dialects.elevenlabs.socket_messages import MESSAGE, PARAMETERS, JobTemplate, Message, TextBuffer
from gateway.dialects.elevenlabs.socket_timing import Chunks
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, operation
from gateway.http.problems import describe
from gateway.http.services import JOBS, LIMITER
from gateway.jobs.listening import AudioStream
from gateway.sockets.playback import Playback
from gateway.sockets.queue import Segment
from gateway.sockets.session import serve_session
from gateway.sockets.socket import BinaryMessage, IdleTimeout, Socket

_MAX_MESSAGE_BYTES: Final = 1 << 20
#: RFC 6455: the client violated a rule; this side failed.
_POLICY: Final = 1008
_INTERNAL: Final = 1011
_UNREADABLE: Final = (
    "Could not parse input message, make sure it is a json and follows the schema outlined in protocol."
)
_INACTIVE: Final = (
    "Have not received a new text input within the timeout of {:.1f} seconds. Streaming input terminated. Please make "
    'sure to either feed the input in the timely manner, or to send the end of input text (empty string "") when done.'
)
#: Errors that the client can avoid; they close the socket with _POLICY, others with _INTERNAL.
_CLIENT_ERRORS: Final = (Invalid, Malformed, Unauthorized, Forbidden, UnknownModel, TooMany)
_NAMES: Final = {
    "unauthorized": "invalid_api_key",
    "forbidden": "missing_permissions",
    "unknown_model": "model_not_found",
    "invalid": "invalid_input_message",
    "no_worker": "system_busy",
    "storage_full": "system_busy",
    "out_of_memory": "system_busy",
    "overloaded": "system_busy",
}


@dataclass(slots=True)
class Generation(Segment):
    """The text of one generation, and its number on this socket, from 0."""

    number: int


class Session:
    """The protocol on one socket."""

    def __init__(self, request: web.Request, socket: Socket, tasks: asyncio.TaskGroup) -> None:
        self._request = request
        self._socket = socket
        self.playback: Playback[Generation] = Playback(request.app[JOBS], tasks, self)
        self._has_begun = False
        self._has_ended = False
        self._num_generations = 0

    async def run(self) -> None:
        """Handle messages until this side closes the socket; raises ClientGone if the client ends it."""
        try:
            self._template = template = JobTemplate(self._request)
            self._buffer = TextBuffer(auto=template.auto_mode)
            while (text := await self._socket.receive_text(template.inactivity_s, self.playback.is_busy)) is not None:
                if not self._has_ended:
                    self._handle(MESSAGE.read(text.encode()))
        except IdleTimeout:
            await self._fail(_INACTIVE.format(template.inactivity_s), "input_timeout_exceeded")
        except (BinaryMessage, Malformed):
            await self._fail(_UNREADABLE, "invalid_input_message")
        except BusError as error:
            await self._fail(*_described(error))

    def _handle(self, message: Message) -> None:
        """Act on a message. Raises BusError if it is wrong."""
        if not self._has_begun:
            self._template.apply(message)
            self._request.app[LIMITER].requests.grant(caller(self._request))
            self._buffer.apply(message.generation_config)
            self._has_begun = True
        if not message.text:
            self._generate(self._buffer.finish())
            self._has_ended = True
            self.playback.enqueue_action(self._end)
            return
        self.playback.queue.check_room(len(message.text) + self._buffer.num_held_chars)
        trigger = bool(message.try_trigger_generation)
        self._generate(self._buffer.add(message.text, trigger=trigger, flush=bool(message.flush)))

    def _generate(self, text: str) -> None:
        if text.strip():
            self.playback.enqueue(Generation(text, self._num_generations))
            self._num_generations += 1

    async def _end(self) -> None:
        await self._socket.send_json({"audio": None, "isFinal": True})
        await self._socket.close()

    async def _fail(self, message: str, name: str, code: int = _POLICY) -> None:
        """Stop playing, send an error and close the socket."""
        await self.playback.interrupt()
        await self._close(message, name, code)

    async def _close(self, message: str, name: str, code: int) -> None:
        await self._socket.send_json({"message": message, "error": name, "code": code})
        await self._socket.close(code, message)

    # The handler of the playback.

    def build_job(self, segment: Generation) -> wire.Job:
        """A validated job for the generation. Raises BusError."""
        return self._template.job(segment.text, segment.number)

    async def play(self, segment: Generation, stream: AudioStream, pieces: AsyncIterator[bytes]) -> None:
        """Send the generation's audio in chunks with their alignments. Raises BusError."""
        pcm = await anext(pieces)
        rate_hz, channels = stream.media
        form = self._template.form
        job_id = stream.key.job
        chunks = Chunks(segment.text, rate_hz * form.speed, channels)
        with closing(Encoding(form, rate_hz, channels, caller=self._socket)) as encoding:
            while True:
                chunk, alignment = chunks.take(pcm, stream.marks, is_last=stream.is_whole)
                data = await encoding.feed(chunk) if chunk else b""
                if stream.is_whole:
                    data += await encoding.finish()
                if data or alignment is not None:
                    audio = b64encode(data).decode()
                    alignments = {"normalizedAlignment": alignment, "alignment": alignment}
                    await self._socket.send_json({"audio": audio, "isFinal": None, **alignments, "job": job_id})
                if stream.is_whole:
                    return
                pcm = await anext(pieces)

    async def report_failure(self, segment: Generation, error: BusError) -> None:
        """Send the error, drop all later generations and close the socket."""
        self.playback.queue.clear()
        await self._close(*_described(error))


def _described(error: BusError) -> tuple[str, str, int]:
    """An error's message, ElevenLabs' name for it, and the code to close the socket with."""
    problem = describe(error)
    name = _NAMES.get(problem.code, problem.code)
    if problem.path == "voice":
        name = "voice_id_does_not_exist"
    if problem.limit_reached is not None:
        _, name = LIMITS.get(problem.limit_reached.limit, OF_POOL)
    return problem.detail, name, _POLICY if isinstance(error, _CLIENT_ERRORS) else _INTERNAL


@operation(
    "Convert text to speech over a WebSocket, while the text is being written.",
    text="The messages are ElevenLabs'; `docs/apis.md` describes them. A wrong URL parameter is reported in a message.",
    parameters=PARAMETERS,
    answers={101: Answer("The connection is a WebSocket from here on.")},
    key_in="message",
)
async def stream_input(request: web.Request) -> web.StreamResponse:
    """`GET /v1/text-to-speech/{voice_id}/stream-input`, a WebSocket."""
    return await serve_session(request, _MAX_MESSAGE_BYTES, lambda socket, tasks: Session(request, socket, tasks))


DIALECT: Final = Dialect(
    name="elevenlabs",
    # Its path is below the prefix of the HTTP routes.
    prefixes=(),
    routes=(web.get("/v1/text-to-speech/{voice_id}/stream-input", stream_input, allow_head=False),),
    refuse=refuser({}),
    envelope=ErrorResponse,
)
