"""vLLM-Omni's WebSocket `/v1/audio/speech/stream`: text in as it is written, audio out sentence by sentence.

The protocol is theirs, without the parts that only their models can use. Added: `input.cancel`, texts are accepted
while audio is sent, the job of the next sentence is prefetched meanwhile, and `audio.start` has `job`.
"""

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from bus.errors import BusError, Invalid
from bus.params import short
from gateway.access.caller import caller
from gateway.dialects.openai.errors import ErrorResponse, refuse
from gateway.dialects.vllm.config import JobTemplate
from gateway.dialects.vllm.player import SentencePlayer, error_message
from gateway.dialects.vllm.sentences import Sentence, Utterances
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, operation
from gateway.http.problems import describe
from gateway.http.services import JOBS, LIMITER
from gateway.sockets.pinned_voices import PinnedVoices
from gateway.sockets.playback import Playback
from gateway.sockets.session import serve_session
from gateway.sockets.socket import BinaryMessage, IdleTimeout, Socket
from gateway.sockets.splitter import Splitter

#: How long a client may take for its first config, and between any two messages while nothing is played.
CONFIG_S: Final = 10.0
IDLE_S: Final = 30.0
_MAX_CONFIG_BYTES: Final = 4 << 20
_MAX_TEXT_BYTES: Final = 128 << 10


_TYPES: Final = ("session.config", "input.text", "input.done", "input.cancel", "session.close")


class _Message(msgspec.Struct, frozen=True):
    type: str
    text: str = ""


_MESSAGE: Final = Body(_Message)


class Session:
    """The protocol on one socket: reads its messages and queues its sentences."""

    def __init__(self, request: web.Request, socket: Socket, tasks: asyncio.TaskGroup) -> None:
        self._request = request
        self._socket = socket
        self._utterances = Utterances()
        self._player = SentencePlayer(socket, self._utterances)
        self.playback: Playback[Sentence] = Playback(request.app[JOBS], tasks, self._player)
        self._voices = PinnedVoices(request.app[JOBS])
        self._template: JobTemplate | None = None
        self._splitter = Splitter("none")
        self._is_closing = False

    async def run(self) -> None:
        """Handle messages until this side closes the socket; raises ClientGone if the client ends it."""
        while True:
            try:
                idle_s = IDLE_S if self._template else CONFIG_S
                text = await self._socket.receive_text(idle_s, self.playback.is_busy)
                if text is None:
                    return
                await self._handle(text)
            except IdleTimeout:
                reason = "Idle timeout: no message received" if self._template else "Timeout waiting for session.config"
                await self._socket.send_json(error_message(reason, "timeout"))
                await self._socket.close()
                return
            except BinaryMessage:
                await self._refuse(Invalid("the message is binary; only JSON in text messages is accepted"))
            except BusError as error:
                await self._refuse(error)

    async def _refuse(self, error: BusError) -> None:
        """Send the error of a message. Before the first valid config it also ends the session."""
        problem = describe(error)
        await self._socket.send_json(error_message(problem.detail, problem.code, problem.path))
        if self._template is None:
            await self._socket.close()

    async def _handle(self, text: str) -> None:
        """Act on a message. Raises BusError if it is wrong."""
        data = text.encode()
        if len(data) > _MAX_CONFIG_BYTES:
            raise Invalid(f"the message has {len(data)} bytes, the limit is {_MAX_CONFIG_BYTES}")
        message = _MESSAGE.read(data)
        if message.type == "session.config":
            self._configure(data)
            return
        if len(data) > _MAX_TEXT_BYTES:
            raise Invalid(f"{short(message.type)} has {len(data)} bytes, the limit is {_MAX_TEXT_BYTES}", "text")
        if message.type not in _TYPES:
            raise Invalid(f"type: {short(message.type)!r} is not one of {', '.join(_TYPES)}", "type")
        template = self._template
        if template is None:
            raise Invalid(f"type: {short(message.type)!r} came where session.config was expected", "type")
        match message.type:
            case "input.text":
                self._add_text(template, message.text)
            case "input.done":
                self._finish_utterance(template)
            case "input.cancel":
                await self._cancel()
            case "session.close" if not self._is_closing:
                self._is_closing = True
                self.playback.enqueue_action(self._socket.close)

    def _configure(self, data: bytes) -> None:
        if self._utterances.has_text:
            raise Invalid("session.config came in the middle of an utterance: send input.done first", "type")
        self._template = JobTemplate(self._request, self._voices, data)
        self._splitter = Splitter(self._template.config.split_granularity, language=self._template.language)

    def _add_text(self, template: JobTemplate, text: str) -> None:
        self.playback.queue.check_room(len(text) + self._splitter.num_held_chars + template.num_queued_chars)
        if text and not self._utterances.has_text:
            self._request.app[LIMITER].requests.grant(caller(self._request))
            self._utterances.has_text = True
        for piece in self._splitter.feed(text):
            self._enqueue(template, piece)

    def _finish_utterance(self, template: JobTemplate) -> None:
        self.playback.queue.check_room(0)
        for piece in self._splitter.finish():
            self._enqueue(template, piece)
        done = self._utterances.finish()

        async def report_end() -> None:
            """Send `session.done`, once the utterance has been played."""
            self._utterances.played()
            await self._socket.send_json(done)

        self.playback.enqueue_action(report_end)

    def _enqueue(self, template: JobTemplate, piece: str) -> None:
        text = piece.strip()
        if text:
            self.playback.enqueue(self._utterances.sentence(text, template))

    async def _cancel(self) -> None:
        """Interrupt: play nothing more of the text received so far, and end its jobs."""
        num_queued = self.playback.queue.num_segments
        await self.playback.interrupt()
        self._splitter.finish()
        await self._player.report_interruption()
        for done in self._utterances.cancel():
            await self._socket.send_json(done)
        await self._socket.send_json({"type": "input.cancelled", "unsaid_sentences": num_queued})
        if self._is_closing:
            await self._socket.close()


@operation(
    "Convert text to speech over a WebSocket, sentence by sentence, while the text is being written.",
    text="The messages are those of vLLM-Omni, with additions; `docs/apis.md` describes both.",
    answers={101: Answer("The connection is a WebSocket from here on.")},
)
async def stream(request: web.Request) -> web.StreamResponse:
    """`GET /v1/audio/speech/stream`, a WebSocket."""
    # Larger than any valid message, so that one which is slightly too large gets an error that says so.
    max_message_bytes = _MAX_CONFIG_BYTES + _MAX_TEXT_BYTES
    return await serve_session(request, max_message_bytes, lambda socket, tasks: Session(request, socket, tasks))


DIALECT: Final = Dialect(
    name="vllm",
    title="VLLM",
    prefixes=("/v1/audio/speech/stream",),
    routes=(web.get("/v1/audio/speech/stream", stream, allow_head=False),),
    refuse=refuse,
    envelope=ErrorResponse,
)
