"""One context of ElevenLabs' sockets: text that is collected into generations, which are played in order.

A generation of theirs is a job here. `stream-input` has one context without an id, `multi-stream-input` several.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from aiohttp import web

from bus import wire
from bus.errors import BusError, Forbidden, Invalid, Malformed, TooMany, Unauthorized, UnknownModel
from gateway.access.caller import caller
from gateway.codecs import Encoding
from gateway.dialects.elevenlabs.errors import LIMITS, OF_POOL
from gateway.dialects.elevenlabs.socket_messages import JobTemplate, Message
from gateway.dialects.elevenlabs.socket_timing import Chunks
from gateway.dialects.elevenlabs.text_buffer import TextBuffer
from gateway.http.problems import describe
from gateway.http.services import JOBS, LIMITER
from gateway.jobs.listening import AudioStream
from gateway.sockets.playback import Playback
from gateway.sockets.queue import Segment
from gateway.sockets.socket import Socket

#: RFC 6455: the client violated a rule; this side failed.
POLICY: Final = 1008
_INTERNAL: Final = 1011
#: Errors that the client can avoid; they have the code POLICY, others _INTERNAL.
_CLIENT_ERRORS: Final = (Invalid, Malformed, Unauthorized, Forbidden, UnknownModel, TooMany)
_NAMES: Final = {
    "unauthorized": "invalid_api_key",
    "forbidden": "missing_permissions",
    "unknown_model": "model_not_found",
    "invalid": "invalid_input_message",
    "malformed": "invalid_input_message",
    "no_worker": "system_busy",
    "storage_full": "system_busy",
    "out_of_memory": "system_busy",
    "overloaded": "system_busy",
}


@dataclass(slots=True)
class Generation(Segment):
    """The text of one generation, its number in its context, from 0, and its voice; "" for the one in the URL."""

    number: int
    voice_id: str


class Spelling(NamedTuple):
    """How a socket spells the fields of its messages."""

    context_id: str
    is_final: str
    normalized: str
    #: Names of fields by those that `Chunks` gives them; None: as they are.
    alignment: dict[str, str] | None


CAMEL: Final = Spelling("contextId", "isFinal", "normalizedAlignment", None)
SNAKE: Final = Spelling(
    "context_id",
    "is_final",
    "normalized_alignment",
    {"charStartTimesMs": "char_start_times_ms", "charDurationsMs": "char_durations_ms", "chars": "chars"},
)


class Context:
    """Collects text until the schedule or the client starts a generation, and sends the audio of each."""

    def __init__(
        self,
        request: web.Request,
        socket: Socket,
        tasks: asyncio.TaskGroup,
        on_failure: Callable[[BusError], Awaitable[None]],
        context_id: str | None = None,
        spelling: Spelling = CAMEL,
    ) -> None:
        """`on_failure` is awaited once a generation is refused or fails; no later one is played."""
        self.playback: Playback[Generation] = Playback(request.app[JOBS], tasks, self)
        self._request = request
        self._socket = socket
        self._on_failure = on_failure
        #: Fields of every message about this context.
        self._named = {} if context_id is None else {spelling.context_id: context_id}
        self._spelling = spelling
        self._buffer = TextBuffer(auto=False)
        #: The voice of the text in the buffer.
        self._voice_id = ""
        self._num_generations = 0
        #: Whether no further text is accepted.
        self.is_closing = False

    @property
    def num_chars(self) -> int:
        """Characters received and not yet played."""
        return self._buffer.num_held_chars + self.playback.queue.num_chars

    def begin(self, template: JobTemplate, first: Message) -> None:
        """Apply the settings of the first message, and count a request. Raises BusError."""
        self._template = template
        template.apply(first)
        self._request.app[LIMITER].requests.grant(caller(self._request))
        self._buffer = TextBuffer(auto=template.auto_mode)
        self._buffer.apply(first.generation_config)

    def add(self, message: Message, num_other_chars: int = 0) -> None:
        """Add the text of a message. `num_other_chars`: characters of other contexts of the socket.

        Raises Invalid if too many are waiting.
        """
        has_flush = bool(message.flush)
        texts = message.texts or ([("", self._voice_id)] if has_flush else [])
        num_chars = sum(len(text) for text, _ in texts)
        self.playback.queue.check_room(num_chars + self._buffer.num_held_chars + num_other_chars)
        for number, (text, voice_id) in enumerate(texts, start=1):
            if voice_id != self._voice_id:
                self.flush()
                self._voice_id = voice_id
            flush = has_flush and number == len(texts)
            self._generate(self._buffer.add(text, trigger=bool(message.try_trigger_generation), flush=flush))

    def flush(self) -> None:
        """Start a generation of the text that is held back."""
        self._generate(self._buffer.finish())

    def close(self, then: Callable[[], Awaitable[None]]) -> None:
        """Accept no more text; run `then` once every generation has been played. Text that is held back is dropped."""
        self.is_closing = True
        self.playback.enqueue_action(then)

    def _generate(self, text: str) -> None:
        if text.strip():
            self.playback.enqueue(Generation(text, self._num_generations, self._voice_id))
            self._num_generations += 1

    # The handler of the playback.

    def build_job(self, segment: Generation) -> wire.Job:
        """A validated job for the generation. Raises BusError."""
        return self._template.job(segment.text, segment.number, segment.voice_id)

    async def play(self, segment: Generation, stream: AudioStream, pieces: AsyncIterator[bytes]) -> None:
        """Send the generation's audio in chunks with their alignments. Raises BusError."""
        pcm = await anext(pieces)
        rate_hz, channels = stream.media
        form = self._template.form
        chunks = Chunks(segment.text, rate_hz * form.speed, channels)
        with closing(Encoding(form, rate_hz, channels, caller=self._socket, tag=form.tag(stream.job))) as encoding:
            while True:
                chunk, alignment = chunks.take(pcm, stream.marks, is_last=stream.is_whole)
                data = await encoding.feed(chunk) if chunk else b""
                if stream.is_whole:
                    data += await encoding.finish()
                if data or alignment is not None:
                    await self._socket.send_json(self._shown(data, alignment, stream.key.job))
                if stream.is_whole:
                    return
                pcm = await anext(pieces)

    def _shown(self, data: bytes, alignment: dict[str, Any] | None, job_id: str) -> dict[str, Any]:
        """The message with a chunk of audio."""
        spelling = self._spelling
        if alignment is not None and spelling.alignment is not None:
            alignment = {name: alignment[theirs] for theirs, name in spelling.alignment.items()}
        message = {"audio": b64encode(data).decode(), spelling.is_final: None, spelling.normalized: alignment}
        return message | {"alignment": alignment, "job": job_id} | self._named

    async def report_failure(self, segment: Generation, error: BusError) -> None:
        """Drop all later generations and report the error."""
        self.playback.queue.clear()
        await self._on_failure(error)


def described(error: BusError) -> tuple[str, str, int]:
    """An error's message, ElevenLabs' name for it, and its code, one that a socket can be closed with."""
    problem = describe(error)
    name = _NAMES.get(problem.code, problem.code)
    if problem.path == "voice":
        name = "voice_id_does_not_exist"
    if problem.limit_reached is not None:
        _, name = LIMITS.get(problem.limit_reached.limit, OF_POOL)
    return problem.detail, name, POLICY if isinstance(error, _CLIENT_ERRORS) else _INTERNAL
