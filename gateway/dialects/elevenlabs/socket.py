"""ElevenLabs' WebSocket `/v1/text-to-speech/{voice_id}/stream-input`: text in as somebody writes it, sound out.

A generation of theirs is a job here: text is gathered as `chunk_length_schedule` says, and asked for when there is
enough of it, or when the client says so. Whatever is wrong is told in their words before the socket is closed.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from bus import wire
from bus.errors import BusError, Forbidden, Invalid, JobError, Malformed, TooMany, Unauthorized, UnknownModel
from gateway.access.caller import caller
from gateway.codecs import Encoding
from gateway.dialects.elevenlabs.errors import LIMITS, Refusal, refusal
from gateway.dialects.elevenlabs.socket_messages import MESSAGE, PARAMETERS, Asked, Message, Schedule
from gateway.dialects.elevenlabs.socket_timing import Chunks
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, operation
from gateway.http.services import JOBS, LIMITER
from gateway.jobs.listening import AudioStream
from gateway.sockets.playback import Line, Speaker
from gateway.sockets.session import converse
from gateway.sockets.socket import NotText, Silent, Socket

_MAX_MESSAGE_BYTES: Final = 1 << 20
#: RFC 6455: the client broke a rule, or we failed.
_POLICY, _INTERNAL = 1008, 1011
_UNREADABLE: Final = (
    "Could not parse input message, make sure it is a json and follows the schema outlined in protocol."
)
_INACTIVE: Final = (
    "Have not received a new text input within the timeout of {:.1f} seconds. Streaming input terminated. Please make "
    'sure to either feed the input in the timely manner, or to send the end of input text (empty string "") when done.'
)
_THEIR_FAULT: Final = (Invalid, Malformed, Unauthorized, Forbidden, UnknownModel, TooMany)
_NAMES: Final = {
    "unauthorized": "invalid_api_key",
    "forbidden": "missing_permissions",
    "unknown_model": "model_not_found",
    "invalid": "invalid_input_message",
    "no_worker": "system_busy",
    "storage_full": "system_busy",
    "out_of_memory": "system_busy",
}


@dataclass(slots=True)
class Generation(Line):
    place: int


class Session:
    def __init__(self, request: web.Request, socket: Socket, tasks: asyncio.TaskGroup) -> None:
        self._request, self._socket = request, socket
        self.speaker: Speaker[Generation] = Speaker(request.app[JOBS], tasks, self)
        self._is_begun = self._is_ended = False
        self._num_generations = 0

    async def run(self) -> None:
        try:
            self._asked = asked = Asked(self._request)
            self._schedule = Schedule(auto=asked.auto_mode)
            while (text := await self._socket.text(asked.inactivity_s, self.speaker.is_busy)) is not None:
                if not self._is_ended:
                    self._heed(MESSAGE.read(text.encode()))
        except Silent:
            await self._end_badly(_INACTIVE.format(asked.inactivity_s), "input_timeout_exceeded")
        except (NotText, Malformed):
            await self._end_badly(_UNREADABLE, "invalid_input_message")
        except BusError as error:
            await self._end_badly(*_told(error))

    def _heed(self, message: Message) -> None:
        """Raises BusError for what is wrong with it."""
        if not self._is_begun:
            self._asked.begin(message)
            self._asked.check()
            self._request.app[LIMITER].requests.grant(caller(self._request))
            self._schedule.begin(message.generation_config)
            self._is_begun = True
        if not message.text:
            self._say(self._schedule.finish())
            self._is_ended = True
            self.speaker.then(self._end)
            return
        self.speaker.check_room(len(message.text) + self._schedule.num_held_chars)
        trigger, flush = bool(message.try_trigger_generation), bool(message.flush)
        self._say(self._schedule.add(message.text, trigger=trigger, flush=flush))

    def _say(self, text: str) -> None:
        if text.strip():
            self.speaker.say(Generation(text, self._num_generations))
            self._num_generations += 1

    async def _end(self) -> None:
        await self._socket.tell({"audio": None, "isFinal": True})
        await self._socket.close()

    async def _end_badly(self, message: str, name: str, code: int = _POLICY) -> None:
        await self.speaker.hush()
        await self._close(message, name, code)

    async def _close(self, message: str, name: str, code: int) -> None:
        await self._socket.tell({"message": message, "error": name, "code": code})
        await self._socket.close(code, message)

    # How a generation is said

    def job(self, line: Generation) -> wire.Job:
        return self._asked.job(line.text, line.place)

    async def play(self, line: Generation, stream: AudioStream, pieces: AsyncIterator[bytes]) -> None:
        pcm = await anext(pieces)
        rate_hz, channels = stream.media
        form, job = self._asked.form, stream.key.job
        chunks = Chunks(line.text, rate_hz * form.speed, channels)
        with closing(Encoding(form, rate_hz, channels)) as encoding:
            while True:
                chunk, alignment = chunks.take(pcm, stream.marks, is_last=stream.is_whole)
                data = await encoding.feed(chunk) if chunk else b""
                if stream.is_whole:
                    data += await encoding.finish()
                if data or alignment is not None:
                    audio = b64encode(data).decode()
                    timed = {"normalizedAlignment": alignment, "alignment": alignment}
                    await self._socket.tell({"audio": audio, "isFinal": None, **timed, "job": job})
                if stream.is_whole:
                    return
                pcm = await anext(pieces)

    async def failed(self, line: Generation, error: BusError) -> None:
        self.speaker.forget()
        await self._close(*_told(error))


def _told(error: BusError) -> tuple[str, str, int]:
    """Message, their name for it, code."""
    code = error.code if isinstance(error, JobError) else "bus_unreachable"
    if isinstance(error, TooMany):
        return str(error), LIMITS[error.limit][1], _POLICY
    name = "voice_id_does_not_exist" if getattr(error, "path", "") == "voice" else _NAMES.get(code, code)
    return str(error), name, _POLICY if isinstance(error, _THEIR_FAULT) else _INTERNAL


@operation(
    "A WebSocket: text in as it is written, sound out.",
    text="The messages are ElevenLabs'; `docs/apis.md` has them. What is wrong with the address is told in a message.",
    parameters=PARAMETERS,
    answers={101: Answer("From here on a WebSocket.")},
    key_in="message",
)
async def stream_input(request: web.Request) -> web.StreamResponse:
    """`GET /v1/text-to-speech/{voice_id}/stream-input`, a WebSocket."""
    return await converse(request, _MAX_MESSAGE_BYTES, lambda *its: Session(request, *its))


DIALECT: Final = Dialect(
    name="elevenlabs",
    # Its path is one of the HTTP door's.
    prefixes=(),
    routes=(web.get("/v1/text-to-speech/{voice_id}/stream-input", stream_input, allow_head=False),),
    refuse=refusal({}),
    envelope=Refusal,
)
