"""ElevenLabs' WebSockets with several contexts: `multi-stream-input` of `text-to-speech` and of `text-to-dialogue`.

Each context is what a whole `stream-input` socket is: its texts are played in order, and its end is a message. Contexts
are played side by side. An error ends its context; it ends the socket only if it is about no context or about the key.
The socket for dialogues has a voice in each text, and spells its fields in another way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from bus.errors import BusError, Forbidden, Malformed, Unauthorized
from gateway.access.caller import CALLER, caller
from gateway.dialects.elevenlabs.context import CAMEL, POLICY, SNAKE, Context, Spelling, described
from gateway.dialects.elevenlabs.contexts import Contexts
from gateway.dialects.elevenlabs.errors import ErrorResponse, refuser
from gateway.dialects.elevenlabs.socket import INACTIVE, MAX_MESSAGE_BYTES, UNREADABLE, end_with
from gateway.dialects.elevenlabs.socket_messages import (
    ADDRESSED,
    CONTEXT_MESSAGE,
    DIALOGUE_MESSAGE,
    PARAMETERS,
    ContextMessage,
    JobTemplate,
    authenticated,
)
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import Answer, operation
from gateway.http.services import JOBS
from gateway.sockets.pinned_voices import PinnedVoices
from gateway.sockets.session import serve_session
from gateway.sockets.socket import BinaryMessage, IdleTimeout, Socket


class Session:
    """The protocol on one socket."""

    def __init__(
        self,
        request: web.Request,
        socket: Socket,
        tasks: asyncio.TaskGroup,
        messages: Body[Any] = CONTEXT_MESSAGE,
        spelling: Spelling = CAMEL,
    ) -> None:
        """`messages` reads a `ContextMessage`."""
        self._messages = messages
        self._spelling = spelling
        self._request = request
        self._socket = socket
        self._tasks = tasks
        self.playback = Contexts()
        self._voices = PinnedVoices(request.app[JOBS])
        #: The key in the first message, or "".
        self._key = ""
        self._has_begun = False
        self._is_ending = False

    async def run(self) -> None:
        """Handle messages until this side closes the socket; raises ClientGone if the client ends it."""
        try:
            inactivity_s = JobTemplate(self._request, self._voices).inactivity_s
            while (text := await self._socket.receive_text(inactivity_s, self.playback.is_busy)) is not None:
                if not self._is_ending:
                    await self._handle(text.encode())
        except IdleTimeout:
            await self._fail(INACTIVE.format(inactivity_s), "input_timeout_exceeded")
        except (BinaryMessage, Malformed):
            await self._fail(UNREADABLE, "invalid_input_message")
        except BusError as error:
            await self._fail(*described(error))

    async def _handle(self, data: bytes) -> None:
        """Act on a message. Raises BusError if the socket must end."""
        context_id = ADDRESSED.read(data).context
        try:
            message: ContextMessage = self._messages.read(data)
            self._authenticate(message)
            self._act(context_id, message)
        except (Malformed, Unauthorized, Forbidden):
            raise
        except BusError as error:
            context = self.playback.get(context_id)
            if context is not None:
                await context.playback.interrupt()
            await self._fail_context(context_id, error)

    def _authenticate(self, message: ContextMessage) -> None:
        """Read the key of the first message; refuse a later one that is another caller's. Raises Unauthorized."""
        if self._has_begun and not message.key:
            return
        found = authenticated(self._request, message.key)
        known = caller(self._request)
        if self._has_begun and (found.tenant, found.key) != (known.tenant, known.key):
            raise Unauthorized("two different keys came on one socket: send one")
        if not self._has_begun:
            self._request[CALLER] = found
            self._key = message.key
            self._has_begun = True

    def _act(self, context_id: str, message: ContextMessage) -> None:
        """Act on a message for a context. Raises BusError if it ends the context."""
        if message.close_socket:
            self._end()
            return
        contexts = self.playback
        if contexts.has_failed(context_id):
            # Its texts were sent before the client read the error.
            if message.close_context:
                contexts.remove(context_id)
            return
        context = contexts.get(context_id)
        if context is None:
            if message.close_context or not message.opens:  # as a keep-alive for a context that has ended
                return
            context = self._open(context_id, message)
        if context.is_closing:
            return
        if message.close_context:
            context.close(self._final(context_id))
        elif message.texts or message.flush:
            context.add(message, contexts.num_chars - context.num_chars)

    def _open(self, context_id: str, first: ContextMessage) -> Context:
        """Begin a context. Raises BusError."""

        async def fail(error: BusError) -> None:
            await self._fail_context(context_id, error)

        context = Context(self._request, self._socket, self._tasks, fail, context_id, self._spelling)
        self.playback.add(context_id, context)
        context.begin(JobTemplate(self._request, self._voices, context_id, self._key), first)
        return context

    def _final(self, context_id: str) -> Callable[[], Awaitable[None]]:
        """The last action of a context."""

        async def send() -> None:
            self.playback.remove(context_id)
            await self._socket.send_json({"audio": None, **self._last(context_id)})

        return send

    def _last(self, context_id: str) -> dict[str, Any]:
        """The fields of every last message of a context."""
        return {self._spelling.is_final: True, self._spelling.context_id: context_id}

    async def _fail_context(self, context_id: str, error: BusError) -> None:
        """End a context with an error, which is its last message."""
        self.playback.fail(context_id)
        message, name, code = described(error)
        # Clients wait for the end of a context whatever it is.
        failed = {"message": message, "error": name, "code": code, "audio": None}
        await self._socket.send_json(failed | self._last(context_id))

    def _end(self) -> None:
        """Close every context, held text included, and then the socket."""
        self._is_ending = True
        for context_id, context in self.playback:
            if not context.is_closing:
                context.flush()
                context.close(self._final(context_id))
        self._tasks.create_task(self._close_once_idle(), name="close")

    async def _close_once_idle(self) -> None:
        while self.playback.is_busy():
            await self.playback.until_idle()
        await self._socket.close()

    async def _fail(self, message: str, name: str, code: int = POLICY) -> None:
        """Stop playing, send an error and close the socket."""
        await self.playback.interrupt()
        await end_with(self._socket, message, name, code)


@operation(
    "Convert several texts to speech over one WebSocket, each in a context of its own.",
    text="The messages are ElevenLabs'; `docs/apis.md` describes them. A wrong URL parameter is reported in a message.",
    parameters=PARAMETERS,
    answers={101: Answer("The connection is a WebSocket from here on.")},
    key_in="message",
)
async def multi_stream_input(request: web.Request) -> web.StreamResponse:
    """`GET /v1/text-to-speech/{voice_id}/multi-stream-input`, a WebSocket."""
    return await serve_session(request, MAX_MESSAGE_BYTES, lambda socket, tasks: Session(request, socket, tasks))


@operation(
    "Convert several dialogues to speech over one WebSocket, each in a context of its own.",
    text="The messages are ElevenLabs'; `docs/apis.md` describes them. A wrong URL parameter is reported in a message.",
    parameters=PARAMETERS[1:],
    answers={101: Answer("The connection is a WebSocket from here on.")},
    key_in="message",
)
async def dialogue_input(request: web.Request) -> web.StreamResponse:
    """`GET /v1/text-to-dialogue/multi-stream-input`, a WebSocket."""

    def open_session(socket: Socket, tasks: asyncio.TaskGroup) -> Session:
        return Session(request, socket, tasks, DIALOGUE_MESSAGE, SNAKE)

    return await serve_session(request, MAX_MESSAGE_BYTES, open_session)


DIALECT: Final = Dialect(
    name="elevenlabs",
    prefixes=(),
    routes=(
        web.get("/v1/text-to-speech/{voice_id}/multi-stream-input", multi_stream_input, allow_head=False),
        web.get("/v1/text-to-dialogue/multi-stream-input", dialogue_input, allow_head=False),
    ),
    refuse=refuser({}),
    envelope=ErrorResponse,
)
