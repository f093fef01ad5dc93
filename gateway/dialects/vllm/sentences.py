"""The sentences and utterances of vLLM-Omni's socket, and the messages about them."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bus import wire
from gateway.codecs.format import SAMPLE_BYTES
from gateway.dialects.vllm.config import JobTemplate
from gateway.sockets.queue import Segment


@dataclass(slots=True)
class Sentence(Segment):
    """One sentence of an utterance."""

    template: JobTemplate
    #: Number of its utterance on this socket, and its own number in that, both from 0.
    utterance: int
    index: int
    #: Characters of its config that count as queued with it: those of the config's first sentence.
    num_config_chars: int = 0
    job: str = ""
    is_started: bool = False
    #: Encoded audio sent so far.
    num_bytes: int = 0

    @property
    def num_chars(self) -> int:
        """Characters that it takes of the queue's limit."""
        return len(self.text) + self.num_config_chars

    def message(self, kind: str, **fields: Any) -> dict[str, Any]:
        """A message about this sentence."""
        return {"type": kind, "utterance_index": self.utterance, "sentence_index": self.index, **fields}

    def start_message(self, media: tuple[int, int] | None) -> dict[str, Any]:
        """`audio.start`; `media`: (rate_hz, channels) of the audio that follows, None if none will."""
        fields: dict[str, Any] = {"sentence_text": self.text, "format": self.template.form.codec}
        if media is not None:
            fields |= {"sample_rate": media[0], "channels": media[1]}
        if self.template.config.word_timestamps:
            fields["word_timestamps"] = True
        if self.job:
            fields["job"] = self.job
        return self.message("audio.start", **fields)

    def done_message(self, *, failed: bool = False, cancelled: bool = False) -> dict[str, Any]:
        """`audio.done`."""
        message = self.message("audio.done", total_bytes=self.num_bytes, error=failed)
        return {**message, "cancelled": True} if cancelled else message


class Utterances:
    """Numbers a socket's utterances and their sentences, as they are received and as they are played."""

    def __init__(self) -> None:
        #: Whether the utterance that is received has any text.
        self.has_text = False
        #: The utterance that is received, and its sentences so far.
        self._received = 0
        self._num_sentences = 0
        #: The first utterance whose `session.done` was not sent, and its sentences that were started.
        self._playing = 0
        self._num_started = 0

    def sentence(self, text: str, template: JobTemplate) -> Sentence:
        """The next sentence of the utterance that is received."""
        num_config_chars = template.num_queued_chars
        template.num_queued_chars = 0
        sentence = Sentence(text, template, self._received, self._num_sentences, num_config_chars)
        self._num_sentences += 1
        return sentence

    def finish(self) -> dict[str, Any]:
        """End the utterance that is received; its `session.done`, to be sent when it has been played."""
        done = _session_done(self._received, self._num_sentences)
        self._begin()
        return done

    def started(self, sentence: Sentence) -> None:
        """Audio of `sentence` is sent from now on."""
        self._num_started = sentence.index + 1

    def played(self) -> None:
        """The utterance that is played has been played to its end."""
        self._playing += 1
        self._num_started = 0

    def cancel(self) -> list[dict[str, Any]]:
        """End every utterance that has not been played to its end; a `session.done` for each."""
        if self.has_text:
            self._begin()
        cancelled = []
        while self._playing < self._received:
            cancelled.append({**_session_done(self._playing, self._num_started), "cancelled": True})
            self.played()
        return cancelled

    def _begin(self) -> None:
        self._received += 1
        self._num_sentences = 0
        self.has_text = False


def _session_done(utterance: int, num_sentences: int) -> dict[str, Any]:
    return {"type": "session.done", "utterance_index": utterance, "total_sentences": num_sentences}


@dataclass(slots=True)
class TimedChunks:
    """The `audio.chunk` messages of a sentence: its audio as it is made, then the time of each word.

    Times count from the beginning of the sentence. A word lasts until the next one begins: engines mark no ends.
    """

    sentence: Sentence
    #: Frames of the job that are played in a second.
    played_hz: float
    #: (rate_hz, channels) of the audio that is sent.
    media: tuple[int, int]
    _marks: list[wire.Mark] = field(default_factory=list)
    _num_chunks: int = 0
    _num_frames: int = 0

    def add(self, marks: Sequence[wire.Mark]) -> None:
        """Keep the marks of words for `last`."""
        self._marks += [mark for mark in marks if mark.kind == "word"]

    def chunk(self, pcm: bytes) -> dict[str, Any]:
        """The message with the next audio, s16le and interleaved."""
        start = self._num_frames
        self._num_frames += len(pcm) // (self.media[1] * SAMPLE_BYTES)
        return self._message(pcm, None, start)

    def last(self) -> dict[str, Any]:
        """The message with the words, without audio; `timestamps` is null if the engine marks no words."""
        text = self.sentence.text
        starts_ms = [self._ms(mark.frame, self.played_hz) for mark in self._marks]
        ends_ms = [*starts_ms[1:], self._ms(self._num_frames, self.media[0])]
        words = [
            {"word": text[mark.start : mark.start + mark.length], "start_ms": start_ms, "end_ms": end_ms}
            for mark, start_ms, end_ms in zip(self._marks, starts_ms, ends_ms, strict=False)
        ]
        return self._message(b"", words or None, 0)

    def _message(self, pcm: bytes, words: list[dict[str, Any]] | None, start: int) -> dict[str, Any]:
        rate_hz, channels = self.media
        number = self._num_chunks
        self._num_chunks += 1
        return self.sentence.message(
            "audio.chunk",
            chunk_id=number,
            chunk_start_ms=self._ms(start, rate_hz),
            chunk_end_ms=self._ms(self._num_frames, rate_hz),
            sample_rate=rate_hz,
            channels=channels,
            audio_b64=b64encode(pcm).decode(),
            timestamps=words,
        )

    def _ms(self, frames: float, hz: float) -> int:
        return round(frames * 1000 / hz)
