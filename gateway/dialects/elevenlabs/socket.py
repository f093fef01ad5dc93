"""ElevenLabs' WebSocket `/v1/text-to-speech/{voice_id}/stream-input`: text in as it is written, audio out.

Text is collected until `chunk_length_schedule` or the client starts a generation, which is a job. An error is sent in
their terms, and then the socket is closed.
"""

import asyncio
from typing import Any, Final

from aiohttp import web

from bus.errors import BusError, Malformed
from gateway.dialects.elevenlabs.context import POLICY, Context, described
from gateway.dialects.elevenlabs.errors import ErrorResponse, refuser
from gateway.dialects.elevenlabs.socket_messages import PARAMETERS, TEXT_MESSAGE, JobTemplate, TextMessage
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, operation
from gateway.http.services import JOBS
from gateway.sockets.pinned_voices import PinnedVoices
from gateway.sockets.playback import Playback
from gateway.sockets.session import serve_session
from gateway.sockets.socket import BinaryMessage, IdleTimeout, Socket

MAX_MESSAGE_BYTES: Final = 1 << 20
UNREADABLE: Final = "Could not parse input message, make sure it is a json and follows the schema outlined in protocol."
INACTIVE: Final = (
    "Have not received a new text input within the timeout of {:.1f} seconds. Streaming input terminated. Please make "
    'sure to either feed the input in the timely manner, or to send the end of input text (empty string "") when done.'
)


class Session:
    """The protocol on one socket."""

    def __init__(self, request: web.Request, socket: Socket, tasks: asyncio.TaskGroup) -> None:
        self._request = request
        self._socket = socket
        self._context = Context(request, socket, tasks, self._close)
        self.playback: Playback[Any] = self._context.playback
        self._has_begun = False

    async def run(self) -> None:
        """Handle messages until this side closes the socket; raises ClientGone if the client ends it."""
        try:
            self._template = template = JobTemplate(self._request, PinnedVoices(self._request.app[JOBS]))
            while (text := await self._socket.receive_text(template.inactivity_s, self.playback.is_busy)) is not None:
                if not self._context.is_closing:
                    self._handle(TEXT_MESSAGE.read(text.encode()))
        except IdleTimeout:
            await self._fail(INACTIVE.format(template.inactivity_s), "input_timeout_exceeded")
        except (BinaryMessage, Malformed):
            await self._fail(UNREADABLE, "invalid_input_message")
        except BusError as error:
            await self._fail(*described(error))

    def _handle(self, message: TextMessage) -> None:
        """Act on a message. Raises BusError if it is wrong."""
        if not self._has_begun:
            self._context.begin(self._template, message)
            self._has_begun = True
        if message.text:
            self._context.add(message)
            return
        self._context.flush()
        self._context.close(self._end)

    async def _end(self) -> None:
        await self._socket.send_json({"audio": None, "isFinal": True})
        await self._socket.close()

    async def _fail(self, message: str, name: str, code: int = POLICY) -> None:
        """Stop playing, send an error and close the socket."""
        await self.playback.interrupt()
        await end_with(self._socket, message, name, code)

    async def _close(self, error: BusError) -> None:
        await end_with(self._socket, *described(error))


async def end_with(socket: Socket, message: str, name: str, code: int) -> None:
    """Send an error that concerns the whole socket, and close it with `code`."""
    await socket.send_json({"message": message, "error": name, "code": code})
    await socket.close(code, message)


@operation(
    "Convert text to speech over a WebSocket, while the text is being written.",
    text="The messages are ElevenLabs'; `docs/apis.md` describes them. A wrong URL parameter is reported in a message.",
    parameters=PARAMETERS,
    answers={101: Answer("The connection is a WebSocket from here on.")},
    key_in="message",
)
async def stream_input(request: web.Request) -> web.StreamResponse:
    """`GET /v1/text-to-speech/{voice_id}/stream-input`, a WebSocket."""
    return await serve_session(request, MAX_MESSAGE_BYTES, lambda socket, tasks: Session(request, socket, tasks))


DIALECT: Final = Dialect(
    name="elevenlabs",
    # Its path is below the prefix of the HTTP routes.
    prefixes=(),
    routes=(web.get("/v1/text-to-speech/{voice_id}/stream-input", stream_input, allow_head=False),),
    refuse=refuser({}),
    envelope=ErrorResponse,
)
