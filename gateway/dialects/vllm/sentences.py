"""How a sentence of vLLM-Omni's socket is asked for, and what is told of it."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import Invalid
from bus.jobs.submit import keyed_id
from gateway.access.caller import CALLER
from gateway.api.job_fields import JobOptions, idempotent_id
from gateway.codecs import Format
from gateway.codecs.wave import SAMPLE_BYTES
from gateway.dialects.openai.request import Speech, VoiceRef, order
from gateway.http.bodies import Body
from gateway.http.services import AUTHENTICATOR
from gateway.sockets.playback import Line
from gateway.sockets.splitter import Granularity

API: Final = "vllm"
_DEFAULT_FORMAT: Final = "wav"
#: Of a config, once what nobody here understands is dropped: it is kept for as long as a sentence of it waits.
_MAX_KEPT_BYTES: Final = 64 << 10


class Config(JobOptions, frozen=True, kw_only=True):
    """`session.config`: what their speech endpoint takes, then ours. What only their models can use is ignored.

    `run_on` and `linger_s` do not apply: a sentence that is left is over, or a barge-in would free nothing.
    """

    model: str | None = None
    voice: str | VoiceRef | None = None
    #: Another name for `voice`.
    speaker: str | VoiceRef | None = None
    response_format: str | None = None
    speed: float | None = None
    instructions: str | None = None
    seed: int | None = None  # type: ignore[assignment]  # theirs may be null
    #: Sound as it comes; else a sentence is one message.
    stream_audio: bool = False
    split_granularity: Granularity = "none"
    #: The time of each word, with the sound as JSON.
    word_timestamps: bool = False


_config: Final = Body(Config)


class Order:
    """A config that can be served, and the sentences' jobs."""

    def __init__(self, request: web.Request, message: bytes) -> None:
        """Raises BusError for what is wrong with the config, its field named."""
        self.config = config = _config.read(message)
        self._num_bytes = len(msgspec.json.encode(config))
        if self._num_bytes > _MAX_KEPT_BYTES:
            size = f"{self._num_bytes} bytes, the limit is {_MAX_KEPT_BYTES}"
            raise Invalid(f"session.config: what counts of it has {size}")
        #: Of its own, in the queue of what waits, with its next sentence.
        self.num_unsaid_chars = self._num_bytes
        self._request = request
        self._size_hint_bytes = len(message)
        _, self.form = self._order("-", "")
        if config.word_timestamps and not (config.stream_audio and self.form.codec == "pcm"):
            raise Invalid("word_timestamps: needs stream_audio true and response_format pcm", "word_timestamps")

    def job(self, text: str, place: str) -> wire.Job:
        """A sentence's complete job; `place` tells it from the socket's others. Raises BusError."""
        # The key may have been revoked since.
        self._request[CALLER] = self._request.app[AUTHENTICATOR].authenticate(self._request)
        # The Idempotency-Key of the handshake is one for all sentences.
        same = idempotent_id(self._request, API)
        job, _ = self._order(text, keyed_id(API, f"{same}/{place}") if same else "")
        return job

    def sentence(self, text: str, utterance: int, index: int) -> "Sentence":
        num_chars, self.num_unsaid_chars = self.num_unsaid_chars, 0
        return Sentence(text, self, utterance, index, num_order_chars=num_chars)

    def _order(self, text: str, job_id: str) -> tuple[wire.Job, Format]:
        config = self.config
        wishes = {name: getattr(config, name) for name in JobOptions.__struct_fields__}
        asked = Speech(
            **{**wishes, "seed": config.seed or 0, "run_on": None, "linger_s": 0.0},
            input=text,
            model=config.model or "",
            voice=config.speaker if config.voice is None else config.voice,
            response_format=config.response_format or _DEFAULT_FORMAT,
            speed=config.speed,
            instructions=config.instructions,
        )
        job, form = order(self._request, asked, self._size_hint_bytes, job_id)
        return msgspec.structs.replace(job, client=msgspec.structs.replace(job.client, api=API)), form


@dataclass(slots=True)
class Sentence(Line):
    order: Order
    utterance: int
    index: int
    job: str = ""
    is_started: bool = False
    #: Of encoded sound, sent.
    num_bytes: int = 0
    #: Of its order, if it is the first one of it.
    num_order_chars: int = 0

    @property
    def num_chars(self) -> int:
        return len(self.text) + self.num_order_chars

    def told(self, kind: str, **more: Any) -> dict[str, Any]:
        """A message about it."""
        return {"type": kind, "utterance_index": self.utterance, "sentence_index": self.index, **more}

    def start(self, media: tuple[int, int] | None) -> dict[str, Any]:
        """`audio.start`; `media`: (rate_hz, channels) of what is sent, None if nothing will be."""
        more: dict[str, Any] = {"sentence_text": self.text, "format": self.order.form.codec}
        if media is not None:
            more |= {"sample_rate": media[0], "channels": media[1]}
        if self.order.config.word_timestamps:
            more["word_timestamps"] = True
        if self.job:
            more["job"] = self.job
        return self.told("audio.start", **more)


@dataclass(slots=True)
class Words:
    """`audio.chunk`s of a sentence: its sound as it comes, and after it when each word was heard.

    Times count from the beginning of the sentence. A word lasts until the next begins: the engine knows no more.
    """

    sentence: Sentence
    #: Frames of the job that are heard in a second.
    heard_hz: float
    #: (rate_hz, channels) of what is sent.
    media: tuple[int, int]
    _marks: list[wire.Mark] = field(default_factory=list)
    _num_chunks: int = 0
    _num_frames: int = 0

    def hear(self, marks: Sequence[wire.Mark]) -> None:
        self._marks += [mark for mark in marks if mark.kind == "word"]

    def chunk(self, pcm: bytes) -> dict[str, Any]:
        channels = self.media[1]
        start, self._num_frames = self._num_frames, self._num_frames + len(pcm) // (channels * SAMPLE_BYTES)
        return self._told(pcm, None, start)

    def last(self) -> dict[str, Any]:
        """Without sound, with the words; null where the engine does not tell them."""
        text, marks, end_ms = self.sentence.text, self._marks, self._ms(self._num_frames, self.media[0])
        starts_ms = [self._ms(mark.frame, self.heard_hz) for mark in marks]
        words = [
            {"word": text[mark.start : mark.start + mark.length], "start_ms": start_ms, "end_ms": next_ms}
            for mark, start_ms, next_ms in zip(marks, starts_ms, [*starts_ms[1:], end_ms], strict=False)
        ]
        return self._told(b"", words or None, 0)

    def _told(self, pcm: bytes, words: list[dict[str, Any]] | None, start: int) -> dict[str, Any]:
        rate_hz, channels = self.media
        number, self._num_chunks = self._num_chunks, self._num_chunks + 1
        return self.sentence.told(
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
