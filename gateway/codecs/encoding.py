"""One stream's way from PCM to bytes."""

from gateway.codecs.format import Format
from gateway.codecs.wave import wav_head


class Encoding:
    def __init__(self, form: Format, rate_hz: int, channels: int, frames: int | None = None) -> None:
        """`frames`: of the whole, None while nobody knows."""
        self._head = wav_head(rate_hz, channels, frames) if form.codec == "wav" else b""

    async def feed(self, pcm: bytes) -> bytes:
        """`pcm`, s16le and interleaved, encoded as far as it can be; the head comes with the first."""
        head, self._head = self._head, b""
        return head + pcm if head else pcm

    async def finish(self) -> bytes:
        """What is left. The encoding is of no more use."""
        head, self._head = self._head, b""
        return head

    def close(self) -> None:
        """Give up what it holds; more than once if need be."""
