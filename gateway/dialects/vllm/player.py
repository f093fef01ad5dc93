"""Plays the sentences of vLLM-Omni's socket: for each `audio.start`, its audio, `audio.done`."""

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any, Final

from bus import wire
from bus.errors import BusError, Invalid
from gateway.codecs import Encoding
from gateway.dialects.vllm.sentences import Sentence, TimedChunks, Utterances
from gateway.http.problems import describe
from gateway.jobs.listening import AudioStream
from gateway.limits.buffers import Buffer
from gateway.sockets.socket import Socket

#: Bytes of PCM of one sentence without `stream_audio`: it stays in memory until it is sent in one message.
_MAX_MESSAGE_PCM_BYTES: Final = 16 << 20


class SentencePlayer:
    """Sends sentences to one socket, in the order of its playback."""

    def __init__(self, socket: Socket, utterances: Utterances) -> None:
        self._socket = socket
        self._utterances = utterances
        self._current: Sentence | None = None

    def build_job(self, segment: Sentence) -> wire.Job:
        """A validated job for the sentence. Raises BusError."""
        return segment.template.job(segment.text, f"{segment.utterance}.{segment.index}")

    async def play(self, segment: Sentence, stream: AudioStream, pieces: AsyncIterator[bytes]) -> None:
        """Send the sentence's audio, between `audio.start` and `audio.done`. Raises BusError."""
        self._current = segment
        segment.job = stream.key.job
        pcm = await anext(pieces)
        if segment.template.config.stream_audio:
            await self._play(segment, stream, pieces, pcm)
            return
        with self._socket.hold() as buffer:
            pcm = await _read_all(pcm, stream, pieces, buffer)
            await self._play(segment, stream, pieces, pcm)

    async def _play(self, segment: Sentence, stream: AudioStream, pieces: AsyncIterator[bytes], pcm: bytes) -> None:
        """Send the sentence's audio, which begins with `pcm`."""
        config, form = segment.template.config, segment.template.form
        rate_hz, channels = stream.media
        frames = stream.done.frames if stream.is_whole else None
        tag = form.tag(stream.job)
        with closing(Encoding(form, rate_hz, channels, frames, caller=self._socket, tag=tag)) as encoding:
            await self._start(segment, encoding.media)
            is_timed = config.word_timestamps
            chunks = TimedChunks(segment, rate_hz * form.speed, encoding.media) if is_timed else None
            while True:
                data = await encoding.feed(pcm)
                if stream.is_whole:
                    data += await encoding.finish()
                if chunks is not None:
                    chunks.add(stream.marks)
                await self._send(segment, data, chunks)
                if stream.is_whole:
                    break
                pcm = await anext(pieces)
        if chunks is not None:
            await self._socket.send_json(chunks.last())
        self._current = None
        await self._socket.send_json(segment.done_message())

    async def report_failure(self, segment: Sentence, error: BusError) -> None:
        """Send `audio.start` unless it was sent, the error and `audio.done`."""
        self._current = None
        if not segment.is_started:
            await self._start(segment, None)
        place = f"utterance {segment.utterance}, sentence {segment.index}"
        discard = {"partial_audio": True, "action": "discard"} if segment.num_bytes else {}
        problem = describe(error)
        message = f"Generation failed for {place}: {problem.detail}"
        await self._socket.send_json(error_message(message, problem.code, problem.path, **discard))
        await self._socket.send_json(segment.done_message(failed=True))

    async def report_interruption(self) -> None:
        """Send `audio.done` for the sentence that was interrupted, if its `audio.start` was sent."""
        interrupted = self._current
        self._current = None
        if interrupted is not None and interrupted.is_started:
            await self._socket.send_json(interrupted.done_message(cancelled=True))

    async def _start(self, sentence: Sentence, media: tuple[int, int] | None) -> None:
        sentence.is_started = True
        self._utterances.started(sentence)
        await self._socket.send_json(sentence.start_message(media))

    async def _send(self, sentence: Sentence, data: bytes, chunks: TimedChunks | None) -> None:
        if not data:
            return
        sentence.num_bytes += len(data)
        if chunks is None:
            await self._socket.send_bytes(data)
        else:
            await self._socket.send_json(chunks.chunk(data))


def error_message(message: str, code: str, path: str = "", **fields: Any) -> dict[str, Any]:
    """An `error` message; `path`: the field that the error is about, or ""."""
    return {"type": "error", "message": message, "code": code, "param": path or None, **fields}


async def _read_all(pcm: bytes, stream: AudioStream, pieces: AsyncIterator[bytes], buffer: Buffer) -> bytes:
    """The whole PCM of a stream whose first piece is `pcm`.

    Raises Invalid if it is too long for one message; TooMany, Overloaded if it does not fit into the buffer.
    """
    parts = [pcm]
    await buffer.grow(len(pcm))
    while not stream.is_whole:
        parts.append(await anext(pieces))
        await buffer.grow(len(parts[-1]))
        if buffer.num_bytes > _MAX_MESSAGE_PCM_BYTES:
            raise Invalid(
                f"stream_audio: the sentence is longer than the {_MAX_MESSAGE_PCM_BYTES} bytes of PCM that one message "
                "may hold; with stream_audio true it comes in parts",
                "stream_audio",
            )
    return b"".join(parts)
