"""Audio in server-sent events: OpenAI's `speech.audio.delta`, and SGLang-Omni's older `audio.speech.chunk`.

Events: WHATWG HTML, "Server-sent events".
"""

import base64
import binascii
from typing import Any, Final

import msgspec

from gpuworker.engine import Pcm
from gpuworker.engines.upstream.audio import Decoder
from gpuworker.engines.upstream.errors import BadAudio, tidy

#: Of one line.
_LINE_BYTES: Final = 8 << 20


class EventDecoder:
    """Decodes the audio of each event by another decoder. Only an event says that the audio has ended."""

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner
        self._rest = b""
        self._has_ended = False

    def feed(self, data: bytes) -> Pcm:
        """As Decoder. Raises BadAudio, which has the server's words if an event reports an error."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LINE_BYTES:
            raise BadAudio(f"an event has more than {_LINE_BYTES:,} bytes")
        audio = b"".join(self._audio(line[5:].strip()) for line in lines if line.startswith(b"data:"))
        return self._inner.feed(audio)

    def finish(self) -> None:
        """As Decoder."""
        if not self._has_ended:
            raise BadAudio("the events ended without the one that says so")
        self._inner.finish()

    def _audio(self, data: bytes) -> bytes:
        """The audio of one event."""
        if data == b"[DONE]":
            self._has_ended = True
            return b""
        try:
            event: Any = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadAudio(f"an event is not JSON: {tidy(data[:100].decode(errors='replace'))!r}") from error
        if not isinstance(event, dict):
            return b""
        kind = event.get("type") or event.get("object")
        if failure := event.get("error"):
            raise BadAudio(tidy(str(failure.get("message", failure) if isinstance(failure, dict) else failure)))
        self._has_ended = self._has_ended or kind == "speech.audio.done"
        audio = event.get("audio")
        if isinstance(audio, dict):
            audio = audio.get("data")
        try:
            return base64.b64decode(audio, validate=True) if isinstance(audio, str) else b""
        except binascii.Error as error:
            raise BadAudio(f"the audio of an event is not base64: {error}") from error
