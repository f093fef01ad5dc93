"""vLLM-Omni's WebSocket `/v1/audio/speech/stream`: text in as somebody writes it, sound out, sentence by sentence.

Theirs is the protocol, less what their models alone can use. Ours beside it: `input.cancel`, texts that are taken while
sound is sent, the next sentence's sound prepared meanwhile, and `job` in `audio.start`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import BusError, Invalid, JobError, Unreachable
from bus.params import short
from gateway.access.caller import caller
from gateway.codecs import Encoding
from gateway.dialects.openai.errors import Refusal, refuse
from gateway.dialects.vllm.sentences import Order, Sentence, Words
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, operation
from gateway.http.services import JOBS, LIMITER
from gateway.jobs.listening import AudioStream
from gateway.sockets.playback import Speaker
from gateway.sockets.session import converse
from gateway.sockets.socket import NotText, Silent, Socket
from gateway.sockets.splitter import Splitter

CONFIG_S: Final = 10.0
IDLE_S: Final = 30.0
_MAX_CONFIG_BYTES: Final = 4 << 20
_MAX_TEXT_BYTES: Final = 128 << 10
#: Without `stream_audio` a sentence is one message, and until it is sent it is in memory.
_MAX_WHOLE_BYTES: Final = 16 << 20


_TYPES: Final = ("session.config", "input.text", "input.done", "input.cancel", "session.close")


class _Message(msgspec.Struct, frozen=True):
    type: str
    text: str = ""


_message: Final = Body(_Message)


class Session:
    def __init__(self, request: web.Request, socket: Socket, tasks: asyncio.TaskGroup) -> None:
        self._request, self._socket = request, socket
        self.speaker: Speaker[Sentence] = Speaker(request.app[JOBS], tasks, self)
        self._order: Order | None = None
        self._splitter = Splitter("none")
        #: The utterance that text goes into, and its sentences so far.
        self._utterance, self._num_sentences = 0, 0
        self._has_text = self._is_leaving = False
        #: The first utterance whose `session.done` was not sent, and its sentences that were heard.
        self._unheard, self._num_heard = 0, 0
        self._playing: Sentence | None = None

    async def run(self) -> None:
        while True:
            try:
                text = await self._socket.text(IDLE_S if self._order else CONFIG_S, self.speaker.is_busy)
                if text is None:
                    return
                await self._heed(text)
            except Silent:
                waited = "Idle timeout: no message received" if self._order else "Timeout waiting for session.config"
                await self._fail(waited, "timeout")
                await self._socket.close()
                return
            except NotText:
                await self._refuse(Invalid("a binary message came, and only JSON in text messages is understood"))
            except BusError as error:
                await self._refuse(error)

    async def _refuse(self, error: BusError) -> None:
        """What is wrong with a message is told; before the first good config it is the end."""
        await self._fail(str(error), *_named(error))
        if self._order is None:
            await self._socket.close()

    async def _fail(self, message: str, code: str, path: str = "", **more: Any) -> None:
        await self._socket.tell({"type": "error", "message": message, "code": code, "param": path or None, **more})

    async def _heed(self, text: str) -> None:
        """Do what a message asks. Raises BusError for what is wrong with it."""
        data = text.encode()
        if len(data) > _MAX_CONFIG_BYTES:
            raise Invalid(f"the message has {len(data)} bytes, the limit is {_MAX_CONFIG_BYTES}")
        message = _message.read(data)
        if message.type == "session.config":
            await self._configure(data)
            return
        if len(data) > _MAX_TEXT_BYTES:
            raise Invalid(f"{short(message.type)} has {len(data)} bytes, the limit is {_MAX_TEXT_BYTES}", "text")
        if message.type not in _TYPES:
            raise Invalid(f"type: {short(message.type)!r} is not one of {', '.join(_TYPES)}", "type")
        order = self._order
        if order is None:
            raise Invalid(f"type: {short(message.type)!r} came where session.config was expected", "type")
        match message.type:
            case "input.text":
                self._take(order, message.text)
            case "input.done":
                self._finish(order)
            case "input.cancel":
                await self._cancel()
            case "session.close" if not self._is_leaving:
                self._is_leaving = True
                self.speaker.then(self._socket.close)

    async def _configure(self, data: bytes) -> None:
        if self._has_text:
            raise Invalid("session.config came in the middle of an utterance: send input.done first", "type")
        self._order = Order(self._request, data)
        self._splitter = Splitter(self._order.config.split_granularity)

    def _take(self, order: Order, text: str) -> None:
        self.speaker.check_room(len(text) + self._splitter.num_held_chars + order.num_unsaid_chars)
        if text and not self._has_text:
            self._request.app[LIMITER].requests.grant(caller(self._request))
        self._has_text = self._has_text or bool(text)
        for piece in self._splitter.feed(text):
            self._say(order, piece)

    def _finish(self, order: Order) -> None:
        self.speaker.check_room(0)
        for piece in self._splitter.finish():
            self._say(order, piece)
        done = {"type": "session.done", "utterance_index": self._utterance, "total_sentences": self._num_sentences}

        async def tell() -> None:
            self._unheard, self._num_heard = self._unheard + 1, 0
            await self._socket.tell(done)

        self.speaker.then(tell)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._utterance, self._num_sentences, self._has_text = self._utterance + 1, 0, False

    def _say(self, order: Order, piece: str) -> None:
        text = piece.strip()
        if text:
            self.speaker.say(order.sentence(text, self._utterance, self._num_sentences))
            self._num_sentences += 1

    async def _cancel(self) -> None:
        """Barge-in: nothing more of what was sent is said, and no job of it runs on."""
        num_waiting = self.speaker.num_waiting_lines
        await self.speaker.hush()
        playing, self._playing = self._playing, None
        self._splitter.finish()
        if playing is not None and playing.is_started:
            await self._done(playing, cancelled=True)
        if self._has_text:
            self._begin_anew()
        for utterance in range(self._unheard, self._utterance):
            told = {"type": "session.done", "utterance_index": utterance, "total_sentences": self._num_heard}
            self._unheard, self._num_heard = utterance + 1, 0
            await self._socket.tell({**told, "cancelled": True})
        await self._socket.tell({"type": "input.cancelled", "unsaid_sentences": num_waiting})
        if self._is_leaving:
            await self._socket.close()

    # How a sentence is said

    def job(self, line: Sentence) -> wire.Job:
        return line.order.job(line.text, f"{line.utterance}.{line.index}")

    async def play(self, line: Sentence, stream: AudioStream, pieces: AsyncIterator[bytes]) -> None:
        self._playing, line.job = line, stream.key.job
        order = line.order
        pcm = await anext(pieces)
        if not order.config.stream_audio:
            pcm = await _whole(pcm, stream, pieces)
        rate_hz, channels = stream.media
        frames = stream.done.frames if stream.is_whole else None
        with closing(Encoding(order.form, rate_hz, channels, frames)) as encoding:
            await self._start(line, encoding.media)
            timed = order.config.word_timestamps
            words = Words(line, rate_hz * order.form.speed, encoding.media) if timed else None
            while True:
                data = await encoding.feed(pcm)
                if stream.is_whole:
                    data += await encoding.finish()
                if words is not None:
                    words.hear(stream.marks)
                await self._send(line, data, words)
                if stream.is_whole:
                    break
                pcm = await anext(pieces)
        if words is not None:
            await self._socket.tell(words.last())
        self._playing = None
        await self._done(line)

    async def failed(self, line: Sentence, error: BusError) -> None:
        self._playing = None
        if not line.is_started:
            await self._start(line, None)
        where = f"utterance {line.utterance}, sentence {line.index}"
        discard: dict[str, Any] = {"partial_audio": True, "action": "discard"} if line.num_bytes else {}
        await self._fail(f"Generation failed for {where}: {error}", *_named(error), **discard)
        await self._done(line, failed=True)

    async def _start(self, line: Sentence, media: tuple[int, int] | None) -> None:
        line.is_started = True
        self._num_heard = line.index + 1
        await self._socket.tell(line.start(media))

    async def _send(self, line: Sentence, data: bytes, words: Words | None) -> None:
        if not data:
            return
        line.num_bytes += len(data)
        if words is None:
            await self._socket.send(data)
        else:
            await self._socket.tell(words.chunk(data))

    async def _done(self, line: Sentence, *, failed: bool = False, cancelled: bool = False) -> None:
        told = line.told("audio.done", total_bytes=line.num_bytes, error=failed)
        await self._socket.tell({**told, "cancelled": True} if cancelled else told)


def _named(error: BusError) -> tuple[str, str]:
    """An error's code, and the field that it is about."""
    code = (
        error.code
        if isinstance(error, JobError)
        else "bus_unreachable"
        if isinstance(error, Unreachable)
        else "malformed"
    )
    return code, getattr(error, "path", "")


async def _whole(pcm: bytes, stream: AudioStream, pieces: AsyncIterator[bytes]) -> bytes:
    """All of a sound. Raises Invalid if that is too much for a message."""
    parts, num_bytes = [pcm], len(pcm)
    while not stream.is_whole:
        parts.append(await anext(pieces))
        num_bytes += len(parts[-1])
        if num_bytes > _MAX_WHOLE_BYTES:
            raise Invalid(
                f"stream_audio: the sentence is longer than the {_MAX_WHOLE_BYTES} bytes of PCM that one message may "
                "hold; with stream_audio true it comes in parts",
                "stream_audio",
            )
    return b"".join(parts)


@operation(
    "A WebSocket: text in as it is written, sound out sentence by sentence.",
    text="The messages are those of vLLM-Omni; `docs/apis.md` has them, and what is ours beside them.",
    answers={101: Answer("From here on a WebSocket.")},
)
async def stream(request: web.Request) -> web.StreamResponse:
    """`GET /v1/audio/speech/stream`, a WebSocket."""
    # Somewhat more than allowed, so that what is too large by little is told in words.
    return await converse(request, _MAX_CONFIG_BYTES + _MAX_TEXT_BYTES, lambda *its: Session(request, *its))


DIALECT: Final = Dialect(
    name="vllm",
    prefixes=("/v1/audio/speech/stream",),
    routes=(web.get("/v1/audio/speech/stream", stream, allow_head=False),),
    refuse=refuse,
    envelope=Refusal,
)
